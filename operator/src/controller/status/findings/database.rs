//! The tables: whether they are there, and take what is written.

use clickstream_protocol::{
    conditions::Reason,
    status::{ProcessorState, ProcessorStatus},
};

use crate::{
    controller::{
        apply::migration::{LOOK_FOR_READERS, State},
        status::{conditions::Finding, observed::Observed},
        workload::Workload,
    },
    crd::ClickstreamPipelineStatus,
};

/// What is to be said about the tables of all targets.
pub(super) fn database(observed: &Observed<'_>, status: &ClickstreamPipelineStatus) -> Finding {
    let targets = &observed.valid.document.spec.targets;
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let mut waits = None;
    for (target, state) in targets.iter().zip(observed.migrations.states()) {
        let name = &target.name;
        match state {
            State::Done(_) | State::Recorded => {}
            State::Failed { why, again } => {
                return Finding::no(
                    Reason::MigrationFailed,
                    format!(
                        "target {name}: {why} (tried again at {again:.0}, and at once when the spec or a Secret changes)"
                    ),
                );
            }
            State::NoSecret(secrets) => {
                return Finding::no(
                    Reason::SecretMissing,
                    format!(
                        "target {name}: Secret {secrets} does not exist in this namespace; create it"
                    ),
                );
            }
            State::Repeated(found) => {
                waits = waits.or_else(|| {
                    Some(Finding::no(
                        Reason::Migrating,
                        format!("target {name}: the migration runs again, since a processor has found: {found}"),
                    ))
                });
            }
            State::Running(Some(obstacle)) => {
                return Finding::no(
                    Reason::MigrationBlocked,
                    format!("target {name}: the migration's pod does not run: {obstacle}"),
                );
            }
            State::Running(None) => {
                waits = waits.or_else(|| {
                    Some(Finding::no(
                        Reason::Migrating,
                        format!("target {name}: the migration runs"),
                    ))
                });
            }
            State::Held => {
                waits = waits.or_else(|| {
                    let message =
                        format!("target {name}: a migration is due, and the operator is paused");
                    Some(Finding::no(Reason::Paused, message))
                });
            }
            State::Queued => {
                waits = waits.or_else(|| {
                    let message = format!(
                        "target {name}: runs as before until {}",
                        observed.gate.others()
                    );
                    Some(Finding::yes(Reason::Queued, message))
                });
            }
        }
    }
    if let Some(outage) = outage(&names, observed.reports) {
        return outage;
    }
    if let Some(waits) = waits.take_if(|waits| !waits.holds()) {
        return waits;
    }
    if let Some(unknown) = unwitnessed(&names, observed.reports, &observed.targets.processors) {
        return unknown;
    }
    waits.unwrap_or_else(|| {
        let readers: Vec<_> = status
            .targets
            .iter()
            .flat_map(|target| &target.missing_readers)
            .map(String::as_str)
            .collect();
        if readers.is_empty() {
            Finding::yes(Reason::Migrated, "the tables of all targets are there")
        } else {
            let message = format!(
                "roles that are to read and do not exist: {}; create them, and a migration lets them read within {} minutes",
                readers.join(", "),
                LOOK_FOR_READERS.as_mins()
            );
            Finding::yes(Reason::ReadersMissing, message)
        }
    })
}

/// Tables that are there can be written while a processor says so, or the kubelet, whose probe asks
/// it for that.
fn unwitnessed(
    names: &[&str],
    reports: &[Vec<ProcessorStatus>],
    workloads: &[Workload],
) -> Option<Finding> {
    let silent: Vec<&str> = names
        .iter()
        .zip(reports.iter().zip(workloads))
        .filter(|(_, (reports, workload))| reports.is_empty() && workload.ready == 0)
        .map(|(name, _)| *name)
        .collect();
    (!silent.is_empty()).then(|| {
        let message = format!(
            "the tables are migrated; whether PostgreSQL takes what is written is not known: no processor of {} is ready or answers",
            silent.join(", ")
        );
        Finding::unknown(Reason::NotReported, message)
    })
}

/// What the processors say of PostgreSQL; `reports` are those of each target in the order of
/// `names`.
fn outage(names: &[&str], reports: &[Vec<ProcessorStatus>]) -> Option<Finding> {
    let of_targets = || names.iter().zip(reports);
    let refused = of_targets().find_map(|(name, reports)| {
        let first = reports.iter().find_map(|report| report.refused.as_ref());
        first.map(|refused| (name, refused))
    });
    if let Some((name, refused)) = refused {
        let message = format!(
            "target {name}: PostgreSQL refuses what the processors write since {} ({}); events wait in Kafka",
            refused.since, refused.class
        );
        return Some(Finding::outage(Reason::PostgresRefuses, message));
    }
    let away: Vec<&str> = of_targets()
        .filter(|(_, reports)| {
            reports
                .iter()
                .any(|report| report.state == ProcessorState::WaitingForPostgres)
        })
        .map(|(name, _)| *name)
        .collect();
    (!away.is_empty()).then(|| {
        let message = format!(
            "PostgreSQL does not answer the processors of {}; events wait in Kafka",
            away.join(", ")
        );
        Finding::outage(Reason::PostgresUnreachable, message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;
    use crate::controller::status::conditions::Truth;

    fn reports(status: serde_json::Value) -> Vec<ProcessorStatus> {
        vec![serde_json::from_value(status).unwrap()]
    }

    #[test]
    fn a_database_that_refuses_is_told_from_one_that_does_not_answer() {
        let running = reports(json!({ "state": "running" }));
        let away = reports(json!({ "state": "waiting_for_postgres" }));
        let full = reports(json!({
            "state": "waiting_for_postgres",
            "refused": { "since": "2026-01-01T00:00:00.000Z", "class": "resources" },
        }));
        let names = ["lake", "warehouse"];
        let found =
            |reports: [&Vec<ProcessorStatus>; 2]| outage(&names, &reports.map(Clone::clone));
        assert!(found([&running, &running]).is_none());
        let silent = format!("{:?}", found([&running, &away]).unwrap());
        assert!(
            silent.contains("PostgresUnreachable") && silent.contains("of warehouse;"),
            "{silent}"
        );
        let refusing = format!("{:?}", found([&away, &full]).unwrap());
        assert!(
            refusing.contains("PostgresRefuses")
                && refusing.contains("target warehouse")
                && refusing.contains("(resources)"),
            "{refusing}"
        );
    }

    #[test]
    fn tables_are_known_to_be_written_by_an_answer_or_a_probe() {
        let workload = |ready| Workload {
            ready,
            ..Workload::default()
        };
        let found = |answers: Vec<ProcessorStatus>, ready| {
            unwitnessed(&["lake"], &[answers], &[workload(ready)])
        };
        assert_eq!(found(reports(json!({})), 0), None);
        assert_eq!(found(Vec::new(), 1), None);
        assert_eq!(found(Vec::new(), 0).unwrap().truth, Truth::Unknown);
    }
}
