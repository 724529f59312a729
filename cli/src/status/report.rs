//! A pipeline as the API has it, with what people ask first.

use clickstream_api::ClickstreamPipelineStatus;
use clickstream_pipeline::spec::PipelineSpec;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, api::DynamicObject};
use serde::{Deserialize, Serialize};

use super::events::Events;
use crate::paint::{BAD, FAINT, GOOD, WAITING};

/// What `-o json` prints: the resource's status, and around it its name, its readiness and its
/// Events.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name of the pipeline.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When its deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
    /// Generation of the spec; the conditions are about `observedGeneration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The condition Ready.
    pub ready: Ready,
    /// Everything that the operator wrote.
    #[serde(flatten)]
    pub status: ClickstreamPipelineStatus,
    /// What happened lately, newest last.
    #[serde(skip_serializing_if = "Events::is_unknown")]
    pub events: Events,
    /// The spec, if this version of the plugin can read it.
    #[serde(skip)]
    pub spec: Result<Box<PipelineSpec>, String>,
}

/// Whether a pipeline is as its spec says.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// In CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Report {
    /// Reads what the API has. A spec of another version is no reason to show nothing.
    pub fn new(pipeline: &DynamicObject, events: Events) -> Self {
        let data = &pipeline.data;
        let status = ClickstreamPipelineStatus::deserialize(&data["status"]).unwrap_or_default();
        let ready = match find(&status.conditions, "Ready") {
            Some(ready) => Ready {
                status: ready.status.clone(),
                reason: ready.reason.clone(),
                message: ready.message.clone(),
            },
            None => Ready {
                status: "Unknown".to_owned(),
                reason: "NotObserved".to_owned(),
                message:
                    "no operator has looked at it; is one installed that watches this namespace?"
                        .to_owned(),
            },
        };
        let metadata = &pipeline.metadata;
        Self {
            name: pipeline.name_any(),
            namespace: pipeline.namespace().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            generation: metadata.generation,
            ready,
            status,
            events,
            spec: PipelineSpec::deserialize(&data["spec"])
                .map(Box::new)
                .map_err(|error| error.to_string()),
        }
    }

    /// Whether the conditions are about an earlier spec.
    pub fn is_behind(&self) -> bool {
        self.status.observed_generation.is_some()
            && self.status.observed_generation != self.generation
    }

    /// Whether something is on its way that needs nobody's help.
    pub fn is_reconciling(&self) -> bool {
        self.holds("Reconciling") && !self.holds("Stalled")
    }

    fn holds(&self, kind: &str) -> bool {
        find(&self.status.conditions, kind).is_some_and(|condition| condition.status == "True")
    }

    /// Since when the operator changes nothing, because somebody asked for it.
    pub fn paused(&self) -> Option<Timestamp> {
        find(&self.status.conditions, "Paused")
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.last_transition_time.0)
    }

    /// How the whole of it looks.
    pub fn colour(&self) -> anstyle::Style {
        match self.ready.status.as_str() {
            "True" if self.holds("DataLossDetected") => BAD,
            "True" if self.holds("Suspended") => WAITING,
            "True" => GOOD,
            _ if self.holds("Suspended") || self.paused().is_some() || self.is_reconciling() => {
                WAITING
            }
            "False" => BAD,
            _ => WAITING,
        }
    }

    /// The smallest watermark of all targets.
    pub fn watermark(&self) -> Option<Timestamp> {
        let watermarks = self.status.targets.iter();
        watermarks
            .filter_map(|target| target.watermark.as_ref().map(|time| time.0))
            .min()
    }

    /// When the numbers of its oldest target were read.
    pub fn observed(&self) -> Option<Timestamp> {
        let times = self.status.targets.iter();
        times
            .filter_map(|target| target.observed_time.as_ref().map(|time| time.0))
            .min()
    }
}

/// How a condition looks: of some, it is good when they do not hold, and what is on its way has not
/// failed.
pub fn colour(condition: &Condition, reconciling: bool) -> anstyle::Style {
    match (condition.type_.as_str(), condition.status.as_str()) {
        ("DataLossDetected" | "Stalled", "True") => BAD,
        ("Suspended" | "Paused" | "Reconciling", "True") => WAITING,
        ("DataLossDetected" | "Stalled" | "Suspended" | "Reconciling", "False") => FAINT,
        (_, "True") => GOOD,
        (_, "False") if !reconciling => BAD,
        _ => WAITING,
    }
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// How long ago something was, as `kubectl` writes it: `12s`, `3m20s`, `5h`, `3d4h`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    // a clock that is a little behind the server's is no reason for a minus
    let seconds = now.duration_since(then).as_secs().max(0);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", rest, "s"),
        600..3_600 => format!("{minutes}m"),
        3_600..36_000 => two(hours, "h", minutes, "m"),
        36_000..86_400 => format!("{hours}h"),
        86_400..864_000 => two(days, "d", hours, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use jiff::ToSpan;
    use serde_json::json;

    use super::*;

    fn report(conditions: &[(&str, &str)]) -> Report {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" }))
            .collect();
        let pipeline = serde_json::from_value(json!({
            "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
            "metadata": { "name": "web", "namespace": "shop", "generation": 2 },
            "spec": { "fieldOfTheFuture": 1 },
            "status": { "observedGeneration": 1, "lag": 7, "conditions": conditions },
        }))
        .unwrap();
        Report::new(&pipeline, Events::NotAsked)
    }

    #[test]
    fn a_spec_of_another_version_still_has_a_status() {
        let report = report(&[("Ready", "True")]);
        assert!(
            report
                .spec
                .as_ref()
                .unwrap_err()
                .contains("fieldOfTheFuture")
        );
        assert_eq!(report.status.lag, Some(7));
        assert!(report.is_behind());
    }

    #[test]
    fn nobody_having_looked_is_unknown_and_says_what_to_look_at() {
        let report = report(&[]);
        assert_eq!(report.ready.status, "Unknown");
        assert!(report.ready.message.contains("operator"));
    }

    #[test]
    fn lost_data_shows_however_ready_the_pipeline_is() {
        assert_eq!(report(&[("Ready", "True")]).colour(), GOOD);
        assert_eq!(
            report(&[("Ready", "True"), ("DataLossDetected", "True")]).colour(),
            BAD
        );
    }

    #[test]
    fn what_goes_on_by_itself_is_not_painted_as_a_failure() {
        assert_eq!(
            report(&[("Ready", "False"), ("Reconciling", "True")]).colour(),
            WAITING
        );
        assert_eq!(
            report(&[
                ("Ready", "False"),
                ("Reconciling", "True"),
                ("Stalled", "True")
            ])
            .colour(),
            BAD
        );
    }

    #[test]
    fn ages_keep_two_units_at_most() {
        let now: Timestamp = "2026-11-22T18:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3_599, "59m"),
            (3_600, "1h"),
            (3_660, "1h1m"),
            (40_000, "11h"),
            (90_000, "1d1h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(now - seconds.seconds(), now), text);
        }
    }

    #[test]
    fn the_report_as_json_is_the_status_with_a_name() {
        let json = serde_json::to_value(report(&[("Ready", "True")])).unwrap();
        assert_eq!(json["lag"], 7);
        assert_eq!(json["name"], "web");
        assert_eq!(json["ready"]["status"], "True");
        assert!(json.get("events").is_none(), "{json}");
    }
}
