//! How pods are scraped.

use anyhow::{Context as _, ensure};

/// How a Prometheus that others run finds PodMonitors, and how often it scrapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scraping {
    /// On every PodMonitor.
    pub labels: Vec<(String, String)>,
    /// Between two scrapes; `None`: as Prometheus has it.
    pub interval: Option<String>,
}

impl Scraping {
    /// From labels as `key=value`, and an interval as Prometheus reads it; empty, it is left to
    /// Prometheus.
    ///
    /// # Errors
    /// What is no label, or no time: the API server would refuse every PodMonitor for it.
    pub fn new(labels: &[String], interval: Option<&str>) -> anyhow::Result<Self> {
        let label = |text: &String| {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .with_context(|| format!("--pod-monitor-labels: {text} is not KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let interval = interval.filter(|interval| !interval.is_empty());
        if let Some(interval) = interval {
            ensure!(
                is_duration(interval),
                "--pod-monitor-interval: {interval} is no time such as 15s or 1m"
            );
        }
        Ok(Self {
            labels: labels.iter().map(label).collect::<anyhow::Result<_>>()?,
            interval: interval.map(str::to_owned),
        })
    }
}

/// Numbers, each with a unit of hours, minutes, seconds or milliseconds.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let next = ["ms", "h", "m", "s"]
            .iter()
            .find_map(|known| unit.strip_prefix(known));
        match next {
            Some(next) if unit.len() < rest.len() => rest = next,
            _ => return false,
        }
    }
    !text.is_empty()
}
