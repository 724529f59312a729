//! One pipeline, part by part.

use std::fmt::Write as _;

use anstyle::Style;
use clickstream_api::{TargetStatus, TopicStatus};
use clickstream_pipeline::spec::{TopicManagement, TopicSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    events::{Events, Happening},
    list::{accounted, lag, one_line},
    report::{Report, age, colour},
};
use crate::paint::{BAD, Cell, FAINT, HEADING, PLAIN, WAITING, cell, known, plain, table};

/// What parts stand in from their titles.
const INDENT: &str = "  ";
/// Events that are shown, the newest ones.
const EVENTS: usize = 8;
/// Partitions that are shown when not everything is asked for.
const PARTITIONS: usize = 5;

/// The whole screen; `wide` leaves nothing out.
pub fn screen(report: &Report, wide: bool, now: Timestamp) -> String {
    let mut text = summary(report, now);
    let parts = [
        ("Topics", topics(report, wide)),
        ("Targets", targets(report, wide, now)),
        ("Records since the beginning", records(report)),
        ("Partitions furthest behind", partitions(report, wide, now)),
        ("Conditions", conditions(report, now)),
        ("Events", events(report, wide, now)),
    ];
    for (title, part) in parts {
        if !part.is_empty() {
            // writing into a String cannot fail
            let _ = write!(text, "\n{}\n{part}", cell(title, HEADING).painted());
        }
    }
    text
}

fn summary(report: &Report, now: Timestamp) -> String {
    let status = &report.status;
    let ready = &report.ready;
    let mut lines = vec![(
        "Ready",
        cell(
            format!("{} ({})", ready.status, ready.reason),
            report.colour(),
        ),
        ready.message.clone(),
    )];
    if let Some(since) = report.deleting {
        lines.push((
            "Deleting",
            cell(age(since, now), WAITING),
            "its pods stop first".to_owned(),
        ));
    }
    if let Some(since) = report.paused() {
        let how = format!(
            "the operator changes nothing; to go on: kubectl clickstream reconcile {} --resume",
            report.name
        );
        lines.push(("Paused", cell(age(since, now), WAITING), how));
    }
    if report.is_behind() {
        let about = format!(
            "spec {} is not looked at yet; all this is about {}",
            report.generation.unwrap_or_default(),
            status.observed_generation.unwrap_or_default()
        );
        lines.push(("Observed", cell("behind", WAITING), about));
    }
    match &report.spec {
        Ok(spec) => {
            lines.push(("Kafka", plain(&spec.kafka.bootstrap_servers), String::new()));
            let image = spec.image.as_deref();
            let note = image.map_or("", |_| "pinned by spec.image");
            lines.push((
                "Image",
                plain(image.unwrap_or("the operator's release")),
                note.to_owned(),
            ));
            let finality = format!("final {} later", spec.watermark.delay);
            let late = format!(
                "{finality}, and {} for late events",
                spec.late_events.allowed_lateness
            );
            lines.push(("Window", plain(spec.window.size.to_string()), late));
        }
        Err(error) => lines.push((
            "Spec",
            cell("not known to this version of the plugin", WAITING),
            error.clone(),
        )),
    }
    lines.push((
        "Processors",
        known(status.processors.as_ref()),
        String::new(),
    ));
    let numbers = report.observed().map_or_else(String::new, |time| {
        format!("numbers of {} ago", age(time, now))
    });
    lines.push(("Lag", lag(status.lag), numbers));
    lines.push((
        "Age",
        known(report.created.map(|time| age(time, now))),
        String::new(),
    ));

    let title = format!("{}/{}", report.namespace, report.name);
    let mut text = format!("{}\n", cell(title, HEADING).painted());
    for (name, value, note) in lines {
        let _ = write!(
            text,
            "  {}  {}",
            cell(format!("{name:<10}"), FAINT).painted(),
            value.painted()
        );
        let _ = match note.is_empty() {
            true => writeln!(text),
            // why it is not ready is the first thing to read
            false if name == "Ready" => writeln!(text, "  {}", one_line(&note)),
            false => writeln!(text, "  {}", cell(one_line(&note), FAINT).painted()),
        };
    }
    text
}

fn topics(report: &Report, wide: bool) -> String {
    let known_topics = &report.status.topics;
    let specs = report.spec.as_ref().map_or(&[][..], |spec| &spec.topics);
    let mut lines: Vec<_> = known_topics
        .iter()
        .map(|topic| {
            let spec = specs.iter().find(|spec| spec.name == topic.name);
            topic_line(topic, spec, wide)
        })
        .collect();
    // what is wanted and not there yet
    let missing = specs
        .iter()
        .filter(|spec| known_topics.iter().all(|topic| topic.name != spec.name));
    lines.extend(missing.map(|spec| {
        let wanted = TopicStatus {
            name: spec.name.clone(),
            ..TopicStatus::default()
        };
        topic_line(&wanted, Some(spec), wide)
    }));
    if lines.is_empty() {
        return String::new();
    }
    let mut headings = vec![
        "NAME",
        ">PARTITIONS",
        ">COPIES",
        "MANAGEMENT",
        "RETENTION",
        "TIMESTAMPS",
    ];
    if wide {
        headings.extend(["CREATED BY US", "ID", "KEPT SETTINGS"]);
    }
    table(INDENT, &headings, &lines)
}

fn topic_line(topic: &TopicStatus, spec: Option<&TopicSpec>, wide: bool) -> Vec<Cell> {
    let management = topic
        .management
        .or_else(|| spec.map(|spec| spec.management))
        .map(TopicManagement::as_str);
    let retention = spec.and_then(|spec| spec.retention);
    let mut line = vec![
        plain(&topic.name),
        match topic.partitions {
            Some(partitions) => plain(partitions.to_string()),
            None => cell("not there yet", WAITING),
        },
        known(topic.replication_factor),
        known(management),
        known(
            retention
                .map(|retention| retention.to_string())
                .or(Some("the broker's".to_owned())),
        ),
        known(topic.timestamp_type.as_ref()),
    ];
    if wide {
        let kept = topic.held_config.join(",");
        line.extend([
            known(
                topic
                    .created
                    .map(|created| if created { "yes" } else { "no" }),
            ),
            known(topic.id.as_ref()),
            known(Some(kept).filter(|kept| !kept.is_empty())),
        ]);
    }
    line
}

fn targets(report: &Report, wide: bool, now: Timestamp) -> String {
    if report.status.targets.is_empty() {
        return String::new();
    }
    let all: Option<i32> = report
        .status
        .topics
        .iter()
        .map(|topic| topic.partitions)
        .sum();
    let lines: Vec<_> = report
        .status
        .targets
        .iter()
        .map(|target| target_line(report, target, all, wide, now))
        .collect();
    let mut headings = vec![
        "NAME",
        "SCHEMA",
        "PROCESSORS",
        "PARTITIONS",
        ">LAG",
        "OLDEST",
        "WATERMARK",
        "COMMITTED",
    ];
    if wide {
        headings.extend(["TABLES", "MIGRATED BY", "NUMBERS OF"]);
    }
    table(INDENT, &headings, &lines)
}

fn target_line(
    report: &Report,
    target: &TargetStatus,
    all: Option<i32>,
    wide: bool,
    now: Timestamp,
) -> Vec<Cell> {
    let ago = |time: &Option<Time>| {
        known(
            time.as_ref()
                .map(|time| format!("{} ago", age(time.0, now))),
        )
    };
    let spec = report.spec.as_ref().ok();
    let schema = spec
        .and_then(|spec| spec.targets.iter().find(|spec| spec.name == target.name))
        .map(|spec| &spec.schema);
    let of = |part: Option<i32>, whole: Option<i32>| match (part, whole) {
        (Some(part), Some(whole)) => {
            let style: Style = if part < whole { WAITING } else { PLAIN };
            cell(format!("{part}/{whole}"), style)
        }
        (part, _) => known(part),
    };
    let mut line = vec![
        plain(&target.name),
        known(schema),
        of(target.ready_replicas, target.replicas),
        of(target.partitions, all),
        lag(target.lag),
        known(target.oldest_unprocessed_age.as_ref()),
        ago(&target.watermark),
        ago(&target.last_commit_time),
    ];
    if wide {
        line.extend([
            known(target.schema_version.map(|version| format!("v{version}"))),
            known(target.migration.as_ref().map(|migration| &migration.image)),
            ago(&target.observed_time),
        ]);
    }
    line
}

fn records(report: &Report) -> String {
    let counted = report
        .status
        .targets
        .iter()
        .filter(|target| target.consumed.is_some());
    let lines: Vec<_> = counted
        .map(|target| {
            vec![
                plain(&target.name),
                known(target.consumed),
                known(target.accepted),
                known(target.duplicate),
                known(target.rejected),
                known(target.late),
                accounted(target.conserved),
            ]
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let headings = [
        "TARGET",
        ">CONSUMED",
        ">ACCEPTED",
        ">DUPLICATE",
        ">REJECTED",
        ">LATE",
        "ALL ACCOUNTED FOR",
    ];
    table(INDENT, &headings, &lines)
}

fn partitions(report: &Report, wide: bool, now: Timestamp) -> String {
    let mut lines = Vec::new();
    for target in &report.status.targets {
        let worst = target
            .worst_partitions
            .iter()
            .filter(|partition| wide || partition.lag != Some(0))
            .take(if wide { usize::MAX } else { PARTITIONS });
        lines.extend(worst.map(|partition| {
            let watermark = partition.watermark.as_ref();
            vec![
                plain(&target.name),
                plain(format!("{}[{}]", partition.topic, partition.partition)),
                lag(partition.lag),
                known(watermark.map(|time| format!("{} ago", age(time.0, now)))),
            ]
        }));
    }
    if lines.is_empty() {
        return String::new();
    }
    table(
        INDENT,
        &["TARGET", "PARTITION", ">LAG", "WATERMARK"],
        &lines,
    )
}

fn conditions(report: &Report, now: Timestamp) -> String {
    let lines: Vec<_> = report
        .status
        .conditions
        .iter()
        .map(|condition| {
            vec![
                plain(&condition.type_),
                cell(
                    &condition.status,
                    colour(condition, report.is_reconciling()),
                ),
                plain(&condition.reason),
                plain(age(condition.last_transition_time.0, now)),
                plain(one_line(&condition.message)),
            ]
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    table(
        INDENT,
        &["TYPE", "STATUS", "REASON", ">SINCE", "MESSAGE"],
        &lines,
    )
}

fn events(report: &Report, wide: bool, now: Timestamp) -> String {
    let known_events = match &report.events {
        Events::Known(known_events) => known_events,
        Events::Hidden(why) => return format!("  {}\n", cell(why, FAINT).painted()),
        Events::NotAsked => return String::new(),
    };
    if known_events.is_empty() {
        return format!(
            "  {}\n",
            cell("none that the API still has", FAINT).painted()
        );
    }
    let first = if wide {
        0
    } else {
        known_events.len().saturating_sub(EVENTS)
    };
    let lines: Vec<_> = known_events[first..]
        .iter()
        .map(|event| event_line(event, now))
        .collect();
    table(INDENT, &[">AGE", "TYPE", "REASON", "MESSAGE"], &lines)
}

fn event_line(event: &Happening, now: Timestamp) -> Vec<Cell> {
    let style = if event.kind == "Warning" { BAD } else { PLAIN };
    let times = match event.count {
        ..=1 => String::new(),
        count => format!(" ({count} times)"),
    };
    vec![
        known(event.time.map(|time| age(time, now))),
        cell(&event.kind, style),
        plain(&event.reason),
        plain(format!("{}{times}", one_line(&event.message))),
    ]
}
