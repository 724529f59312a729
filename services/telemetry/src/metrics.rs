//! The registry every service starts from.

use prometheus::{IntGauge, Opts, Registry};

/// The commit a binary was built from; images set the variable at build time.
const REVISION: Option<&str> = option_env!("CLICKSTREAM_REVISION");

/// A registry that already holds [`build_info`] and, on Linux, the process metrics (`process_cpu_seconds_total`,
/// `process_resident_memory_bytes`, `process_open_fds`, …).
///
/// # Errors
/// A metric of that name is registered already; not possible with the registry made here.
pub fn registry(service: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    build_info(&registry, service)?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    Ok(registry)
}

/// Registers the gauge `clickstream_build_info{service,version,revision}`, always 1: joined to other metrics, it
/// tells which build they come from.
///
/// # Errors
/// The gauge is in this registry already.
pub fn build_info(registry: &Registry, service: &str) -> prometheus::Result<()> {
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
    registry.register(Box::new(gauge))
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
