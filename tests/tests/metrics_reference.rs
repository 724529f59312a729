//! `docs/metrics.md` is what the programs themselves tell of their metrics.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{fmt::Write as _, fs, path::Path};

use clickstream_telemetry::metrics::Family;

const HEAD: &str = "\
<!-- Generated from the help texts in the code; do not edit.
     Write it anew with: CLICKSTREAM_UPDATE=1 cargo test -p clickstream-testbed --test metrics_reference -->

# Metrics

Each program serves them at `/metrics` of its admin address (`--admin-listen`). Names say the unit; times are in seconds, ages and
lags as well as instants (`_timestamp_seconds`, since 1970).

- **A value that is not known has no series.** There is no `-1` to filter out; `absent()` finds what is missing.
- **Counters count what one process did**, so `sum()` over the pods is the total, and `rate()` bridges restarts. Where a help text says
  *the same in all processors of a target*, the number is the database's: take `max()`.
- **Label sets are closed.** Topics, partitions and promoted columns come from the spec, everything else from lists in the code; nothing that a client,
  a server or a log holds becomes a label. Series of a partition or a pipeline vanish with it.
- **Gauges are set once a second**, also while PostgreSQL or Kafka is away.
- **`clickstream_conservation_difference`** is the account of every record: consumed = accepted + duplicate + rejected + late, in the
  committed totals of each partition. It is 0, or something is wrong.
- The operator's series about a pipeline carry the pipeline's own `namespace` and `pipeline`: scrape it with `honorLabels: true`.

## Heartbeats

Without traffic nothing tells whether an event would arrive. With `spec.heartbeat.enabled` each processor sends a record without a value
to every partition that it holds, once an `interval` (default 10 s, about 100 bytes in the log), and commits it as it would an event:

```yaml
spec:
  heartbeat: { enabled: true, interval: 10s }
```

`clickstream_heartbeat_age_seconds` is then the age of the newest one that is committed, and `clickstream_heartbeat_latency_seconds` how
long they took. Like tombstones they are counted as `skipped`, outside `consumed`; they move no watermark and end no silence, so windows
become final as without them, and the audit passes over them. They need topics that are `Managed`, and the right to write them (Kafka ACL
`Write` on the topic for the processor's user). A processor that is frozen, without its claim or without PostgreSQL sends none, so the
age grows. The header `clickstream-heartbeat` holds the sender's time in microseconds; where broker and processor disagree on the time by
more than a minute it is not believed.

`clickstream_retention_headroom_seconds` needs the right to read the topic's settings (Kafka ACL `DescribeConfigs`); without it the series
is absent.

The alerts that are shipped, with what to do about each, are in [runbooks](runbooks).
";

fn section(page: &mut String, title: &str, families: &[Family]) {
    let _ = write!(
        page,
        "\n## {title}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
    );
    for family in families {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let mut help = family.help.trim().replace('|', "\\|");
        if !help.ends_with('.') {
            help.push('.');
        }
        if !family.buckets.is_empty() {
            let bounds: Vec<_> = family.buckets.iter().map(f64::to_string).collect();
            let _ = write!(help, " Buckets: {}.", bounds.join(", "));
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {help} |",
            family.name,
            family.kind,
            labels.join(", ")
        );
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let processor = clickstream_processor::metrics::documented().unwrap();
    let producer = clickstream_producer::metrics::documented().unwrap();
    let operator = clickstream_operator::metrics::documented().unwrap();
    // what all of them have is told once
    let shared: Vec<_> = processor
        .iter()
        .filter(|family| {
            let has = |all: &[Family]| all.iter().any(|other| other.name == family.name);
            has(&producer) && has(&operator)
        })
        .cloned()
        .collect();
    let own = |all: Vec<Family>| -> Vec<Family> {
        all.into_iter()
            .filter(|family| shared.iter().all(|other| other.name != family.name))
            .collect()
    };
    section(&mut page, "Processor", &own(processor));
    section(&mut page, "Producer", &own(producer));
    section(&mut page, "Operator", &own(operator));
    section(&mut page, "All programs", &shared);
    page
}

#[test]
fn the_page_about_metrics_is_what_the_code_tells() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = page();
    if std::env::var_os("CLICKSTREAM_UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/metrics.md is stale; write it anew with: CLICKSTREAM_UPDATE=1 cargo test -p clickstream-testbed --test metrics_reference"
    );
}

#[test]
fn every_metric_of_the_shipped_alerts_is_told_of() {
    let page = page();
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/monitoring/rules.yaml");
    let rules = fs::read_to_string(alerts).unwrap();
    let rules: serde_yaml::Value = serde_yaml::from_str(&rules).unwrap();
    let name = regex::Regex::new(r"\b(clickstream|kafka|controller_runtime|workqueue)_[a-z_]+");
    let (name, parts) = (
        name.unwrap(),
        regex::Regex::new("_(bucket|sum|count)$").unwrap(),
    );
    let groups = rules["groups"].as_sequence().unwrap().iter();
    let mut expressions = 0;
    for rule in groups.flat_map(|group| group["rules"].as_sequence().unwrap()) {
        let expression = rule["expr"].as_str().unwrap();
        for found in name.find_iter(expression) {
            let family = parts.replace(found.as_str(), "");
            assert!(
                page.contains(&format!("| `{family}` |")),
                "{family}: {expression}"
            );
        }
        expressions += 1;
    }
    assert!(expressions > 10, "{expressions}");
}
