//! Several pipelines, a line each.

use jiff::Timestamp;

use super::report::{Report, age};
use crate::paint::{BAD, Cell, FAINT, cell, known, plain, table};

/// The lines. Without a namespace they are of many, and say so.
pub fn list(reports: &[Report], namespace: Option<&str>, wide: bool, now: Timestamp) -> String {
    if reports.is_empty() {
        let place = namespace.map_or_else(
            || "any namespace".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        return format!("No pipelines in {place}. To begin: kubectl clickstream init\n");
    }
    let mut headings = vec![
        "NAME",
        "READY",
        "REASON",
        "PROCESSORS",
        ">LAG",
        ">WATERMARK",
        "WINDOW",
        "AGE",
    ];
    if namespace.is_none() {
        headings.insert(0, "NAMESPACE");
    }
    if wide {
        headings.extend(["TOPICS", "TARGETS", "MESSAGE"]);
    }
    let lines: Vec<Vec<Cell>> = reports
        .iter()
        .map(|report| line(report, namespace.is_none(), wide, now))
        .collect();
    table("", &headings, &lines)
}

fn line(report: &Report, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Cell> {
    let status = &report.status;
    let mut line = vec![
        plain(&report.name),
        cell(&report.ready.status, report.colour()),
        plain(&report.ready.reason),
        known(status.processors.as_ref()),
        lag(status.lag),
        known(
            report
                .watermark()
                .map(|time| format!("{} ago", age(time, now))),
        ),
        known(status.window.as_ref()),
        known(report.created.map(|time| age(time, now))),
    ];
    if with_namespace {
        line.insert(0, plain(&report.namespace));
    }
    if wide {
        let topics: Vec<_> = status
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect();
        let targets: Vec<_> = status
            .targets
            .iter()
            .map(|target| target.name.as_str())
            .collect();
        line.extend([
            known(Some(topics.join(",")).filter(|topics| !topics.is_empty())),
            known(Some(targets.join(",")).filter(|targets| !targets.is_empty())),
            plain(one_line(&report.ready.message)),
        ]);
    }
    line
}

/// Lag, or that nobody knows it.
pub fn lag(lag: Option<i64>) -> Cell {
    lag.map_or_else(|| cell("unknown", FAINT), |lag| plain(lag.to_string()))
}

/// Whether the conservation check holds.
pub fn accounted(conserved: Option<bool>) -> Cell {
    match conserved {
        Some(true) => plain("yes"),
        Some(false) => cell("NO", BAD),
        None => cell("-", FAINT),
    }
}

/// A message that would break a table in two.
pub fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
