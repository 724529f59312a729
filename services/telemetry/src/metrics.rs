//! The registry every service starts from, and what `docs/metrics.md` is made of.

use prometheus::{IntGauge, Opts, Registry, core::Collector, proto::MetricType};

/// The commit a binary was built from; images set the variable at build time.
const REVISION: Option<&str> = option_env!("CLICKSTREAM_REVISION");

/// A registry that already holds [`build_info`] and, on Linux, the process metrics
/// (`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, …).
///
/// # Errors
/// A metric of that name is registered already; not possible with the registry made here.
pub fn registry(service: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    register(&registry, common(service)?)?;
    Ok(registry)
}

/// What every service has.
///
/// # Errors
/// Not possible: the names are valid.
pub fn common(service: &str) -> prometheus::Result<Vec<Box<dyn Collector>>> {
    let mut all: Vec<Box<dyn Collector>> =
        vec![Box::new(info(service)?), crate::tracing::collector()];
    #[cfg(target_os = "linux")]
    all.push(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ));
    Ok(all)
}

/// Registers all of them.
///
/// # Errors
/// A name that is taken.
pub fn register(
    registry: &Registry,
    collectors: Vec<Box<dyn Collector>>,
) -> prometheus::Result<()> {
    collectors
        .into_iter()
        .try_for_each(|collector| registry.register(collector))
}

/// A metric as the documentation tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels, constant ones included.
    pub labels: Vec<String>,
    /// Its help text.
    pub help: String,
    /// Upper bounds of a histogram's buckets, in the metric's unit.
    pub buckets: Vec<f64>,
}

/// What these collectors collect, sorted by name, whether there is a value yet or not.
#[must_use]
pub fn families(collectors: &[Box<dyn Collector>]) -> Vec<Family> {
    let mut all: Vec<Family> = collectors
        .iter()
        .flat_map(|collector| {
            let gathered = collector.collect();
            collector.desc().into_iter().map(move |desc| {
                let found = gathered.iter().find(|family| family.name() == desc.fq_name);
                let mut labels: Vec<String> = desc
                    .const_label_pairs
                    .iter()
                    .map(|pair| pair.name().to_owned())
                    .collect();
                labels.extend(desc.variable_labels.iter().cloned());
                Family {
                    name: desc.fq_name.clone(),
                    kind: match found.map(prometheus::proto::MetricFamily::get_field_type) {
                        Some(MetricType::COUNTER) => "counter",
                        Some(MetricType::HISTOGRAM) => "histogram",
                        _ => "gauge",
                    },
                    labels,
                    help: desc.help.clone(),
                    buckets: found.map(bounds).unwrap_or_default(),
                }
            })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The finite bounds of a histogram that has a series; none of anything else.
fn bounds(family: &prometheus::proto::MetricFamily) -> Vec<f64> {
    if family.get_field_type() != MetricType::HISTOGRAM {
        return Vec::new();
    }
    family.get_metric().first().map_or_else(Vec::new, |metric| {
        let buckets = metric.get_histogram().get_bucket().iter();
        buckets
            .map(prometheus::proto::Bucket::upper_bound)
            .filter(|bound| bound.is_finite())
            .collect()
    })
}

/// Registers the gauge `clickstream_build_info{service,version,revision}`, always 1: joined to
/// other metrics, it tells which build they come from.
///
/// # Errors
/// The gauge is in this registry already.
pub fn build_info(registry: &Registry, service: &str) -> prometheus::Result<()> {
    registry.register(Box::new(info(service)?))
}

fn info(service: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::with_opts(
        Opts::new(
            "clickstream_build_info",
            "Always 1; the labels tell what is running",
        )
        .const_label("service", service)
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("revision", REVISION.unwrap_or("unknown")),
    )?;
    gauge.set(1);
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn the_build_is_told_by_labels() {
        let registry = Registry::new();
        build_info(&registry, "processor").unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("clickstream_build_info{"))
            .unwrap();
        assert!(line.contains(r#"service="processor""#), "{line}");
        assert!(
            line.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")),
            "{line}"
        );
        assert!(line.contains("revision="), "{line}");
        assert!(line.ends_with("} 1"), "{line}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_service_registry_knows_the_memory_of_its_process() {
        let families = registry("processor").unwrap().gather();
        let resident = families
            .iter()
            .find(|family| family.name() == "process_resident_memory_bytes")
            .unwrap();
        assert!(resident.get_metric()[0].get_gauge().get_value() > 0.0);
    }
}
