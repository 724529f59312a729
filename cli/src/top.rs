//! `top`: partitions as their processors tell of them, by way of the API server.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::bail;
use clickstream_protocol::{ADMIN_PORT_NAME, exit::INCOMPLETE, labels, status::ProcessorStatus};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::GetParams, core::Request};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    access::{Access, explained},
    args::{
        ReportForm,
        incidents::{Component, Order, TopArgs},
    },
    guarded, logs,
    paint::{self, BAD, Cell, Colours, FAINT, cell, known, plain, table},
};

/// Pods that are asked at the same time.
const AT_ONCE: usize = 16;
/// A processor answers from memory, and the API server hands it on.
const PATIENCE: Duration = Duration::from_secs(10);

/// A partition, for `-o json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Partition {
    target: String,
    topic: String,
    partition: i32,
    owner: String,
    /// Records behind the end of the log.
    lag: Option<i64>,
    /// Records a second, between two looks.
    rate: Option<f64>,
    oldest_unprocessed_seconds: Option<f64>,
    state: String,
    #[serde(skip)]
    epoch: i64,
    #[serde(skip)]
    next_offset: Option<i64>,
}

/// All that was told at one time.
#[derive(Debug, Default, Serialize)]
struct Look {
    partitions: Vec<Partition>,
    /// Pods that do not answer, and why.
    silent: BTreeMap<String, String>,
    #[serde(skip)]
    at: Option<Instant>,
}

/// Shows the partitions, once or until it is interrupted.
///
/// # Errors
/// No processor answers.
pub async fn run(access: &Access, args: &TopArgs, colours: Colours) -> anyhow::Result<ExitCode> {
    let mut before = look(access, args).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
        let mut now = look(access, args).await?;
        rate(&before, &mut now);
        sort(&mut now.partitions, args.sort);
        let text = match args.output {
            ReportForm::Table => shown(&now, args.lines),
            ReportForm::Json if args.watch => format!("{}\n", serde_json::to_string(&now)?),
            ReportForm::Json => format!("{}\n", serde_json::to_string_pretty(&now)?),
        };
        paint::print(colours, &text)?;
        if !args.watch {
            return Ok(if now.silent.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(INCOMPLETE)
            });
        }
        if args.output == ReportForm::Table {
            paint::print(colours, "\n")?;
        }
        before = now;
    }
}

async fn look(access: &Access, args: &TopArgs) -> anyhow::Result<Look> {
    let component = Some(Component::Processor);
    let pods = logs::pods(access, &args.name, args.target.as_deref(), component).await?;
    if pods.is_empty() {
        access.pipeline(&args.name).await?;
        bail!(
            "{}/{} has no processors: see kubectl clickstream status {} --namespace {}",
            access.namespace,
            args.name,
            args.name,
            access.namespace
        );
    }
    let answers: Vec<(String, String, anyhow::Result<String>)> = stream::iter(pods)
        .map(|pod| async move {
            let target = pod
                .labels()
                .get(labels::TARGET)
                .cloned()
                .unwrap_or_default();
            (pod.name_any(), target, ask(access, &pod, "status").await)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut look = Look {
        at: Some(Instant::now()),
        ..Look::default()
    };
    for (pod, target, answer) in answers {
        let status = answer.and_then(|text| Ok(serde_json::from_str::<ProcessorStatus>(&text)?));
        match status {
            Ok(status) => look.add(&pod, &target, status),
            Err(error) => {
                look.silent.insert(pod, format!("{error:#}"));
            }
        }
    }
    let first = look.silent.iter().next();
    if let Some((pod, why)) = first
        && look.partitions.is_empty()
    {
        bail!(
            "no processor answers; {pod}: {why}. It takes get on pods/proxy, and NetworkPolicies that let the API server reach the port {ADMIN_PORT_NAME}"
        );
    }
    Ok(look)
}

impl Look {
    fn add(&mut self, pod: &str, target: &str, status: ProcessorStatus) {
        let of = |topic: String, partition: i32, state: &str| Partition {
            target: target.to_owned(),
            topic,
            partition,
            owner: pod.to_owned(),
            lag: None,
            rate: None,
            oldest_unprocessed_seconds: None,
            state: state.to_owned(),
            epoch: 0,
            next_offset: None,
        };
        for reported in status.partitions {
            self.insert(Partition {
                lag: reported.lag,
                oldest_unprocessed_seconds: reported.oldest_unprocessed_seconds,
                epoch: reported.epoch,
                next_offset: reported.next_offset,
                ..of(reported.topic, reported.partition, &reported.state)
            });
        }
        for halted in status.halted {
            let halted = of(halted.topic, halted.partition, "halted");
            if !self.partitions.iter().any(|known| known.is(&halted)) {
                self.partitions.push(halted);
            }
        }
    }

    /// Of two that tell of a partition, the one that claimed it last has it.
    fn insert(&mut self, found: Partition) {
        match self.partitions.iter_mut().find(|known| known.is(&found)) {
            Some(known) if known.epoch >= found.epoch => {}
            Some(known) => *known = found,
            None => self.partitions.push(found),
        }
    }
}

impl Partition {
    fn is(&self, other: &Self) -> bool {
        (&self.target, &self.topic, self.partition)
            == (&other.target, &other.topic, other.partition)
    }
}

/// What a pod answers on its admin port.
///
/// # Errors
/// It has no such port, does not answer, or may not be asked.
pub async fn ask(access: &Access, pod: &Pod, path: &str) -> anyhow::Result<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| {
        let ports = container.ports.iter().flatten();
        ports.map(move |port| (container, port))
    });
    let admin = ports.find(|(_, port)| port.name.as_deref() == Some(ADMIN_PORT_NAME));
    let Some((container, port)) = admin else {
        bail!("it has no port {ADMIN_PORT_NAME}");
    };
    let (namespace, name) = (&access.namespace, pod.name_any());
    let scheme = if guarded::by_tls(container) {
        "https:"
    } else {
        ""
    };
    let place = format!(
        "/api/v1/namespaces/{namespace}/pods/{scheme}{name}:{}/proxy",
        port.container_port
    );
    let asks = Request::new(place);
    let shown = guarded::tokens(access, pod, container).await?;
    let asked = async {
        let mut tokens = shown.iter();
        loop {
            let mut request = asks.get(path, &GetParams::default())?;
            if let Some(token) = tokens.next() {
                let headers = request.headers_mut();
                headers.insert(guarded::TOKEN_HEADER, token.parse()?);
            }
            match access.client.request_text(request).await {
                Err(kube::Error::Api(refused)) if refused.code == 401 && tokens.len() > 0 => {}
                answer => return answer.map_err(explained),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer within {} s", PATIENCE.as_secs()),
    }
}

/// Records a second since the look before. A partition that has gone elsewhere goes on at its
/// offset.
fn rate(before: &Look, now: &mut Look) {
    let (Some(then), Some(at)) = (before.at, now.at) else {
        return;
    };
    let seconds = at.duration_since(then).as_secs_f64();
    for partition in &mut now.partitions {
        let known = before.partitions.iter().find(|known| known.is(partition));
        let offsets = known
            .and_then(|known| known.next_offset)
            .zip(partition.next_offset);
        partition.rate = offsets
            .filter(|_| seconds > 0.0)
            .map(|(before, now)| records(now.saturating_sub(before).max(0)) / seconds);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "records of some seconds are exact"
)]
fn records(count: i64) -> f64 {
    count as f64
}

fn sort(partitions: &mut [Partition], order: Order) {
    let place = |partition: &Partition| {
        (
            partition.target.clone(),
            partition.topic.clone(),
            partition.partition,
        )
    };
    partitions.sort_by(|a, b| {
        let first = match order {
            // what is not known may be the worst
            Order::Lag => (b.lag.is_none(), b.lag).cmp(&(a.lag.is_none(), a.lag)),
            Order::Rate => b.rate.unwrap_or(-1.0).total_cmp(&a.rate.unwrap_or(-1.0)),
            Order::Owner => a.owner.cmp(&b.owner),
            Order::Partition => std::cmp::Ordering::Equal,
        };
        first.then_with(|| place(a).cmp(&place(b)))
    });
}

fn shown(look: &Look, lines: usize) -> String {
    let all = &look.partitions;
    let lag: Option<i64> = all.iter().map(|partition| partition.lag).sum();
    let rate: f64 = all.iter().filter_map(|partition| partition.rate).sum();
    let mut owners: Vec<&str> = all
        .iter()
        .map(|partition| partition.owner.as_str())
        .collect();
    owners.sort_unstable();
    owners.dedup();
    let lag = lag.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string());
    let mut text = format!(
        "{} partitions of {} processors; lag {lag}, {rate:.0} records/s\n\n",
        all.len(),
        owners.len()
    );
    let count = if lines == 0 { all.len() } else { lines };
    let rows: Vec<Vec<Cell>> = all.iter().take(count).map(row).collect();
    text.push_str(&table(
        "",
        &[
            "TARGET",
            "TOPIC",
            ">PARTITION",
            ">LAG",
            ">RATE/S",
            ">OLDEST",
            "STATE",
            "OWNER",
        ],
        &rows,
    ));
    if all.len() > count {
        // writing into a String cannot fail
        let _ = writeln!(text, "and {} more: --lines 0 shows all", all.len() - count);
    }
    for (pod, why) in &look.silent {
        let _ = writeln!(
            text,
            "{}",
            cell(format!("{pod} does not answer: {why}"), BAD).painted()
        );
    }
    text
}

fn row(partition: &Partition) -> Vec<Cell> {
    let state = match partition.state.as_str() {
        "halted" => cell("halted", BAD),
        "" => cell("-", FAINT),
        other => plain(other),
    };
    vec![
        plain(&partition.target),
        plain(&partition.topic),
        plain(partition.partition.to_string()),
        known(partition.lag),
        known(partition.rate.map(|rate| format!("{rate:.0}"))),
        known(
            partition
                .oldest_unprocessed_seconds
                .map(|age| format!("{age:.0}s")),
        ),
        state,
        plain(&partition.owner),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    fn told(pod: &str, partitions: serde_json::Value) -> Look {
        let mut look = Look {
            at: Some(Instant::now()),
            ..Look::default()
        };
        add(&mut look, pod, partitions);
        look
    }

    fn add(look: &mut Look, pod: &str, partitions: serde_json::Value) {
        let status = json!({ "partitions": partitions, "later": 1 });
        look.add(pod, "lake", serde_json::from_value(status).unwrap());
    }

    fn one(partition: i32, epoch: i64, lag: Option<i64>, next: i64) -> serde_json::Value {
        json!({ "topic": "t", "partition": partition, "epoch": epoch, "lag": lag, "next_offset": next })
    }

    #[test]
    fn of_two_that_tell_of_a_partition_the_later_claim_counts() {
        let mut look = told("old", json!([one(0, 3, Some(9), 1)]));
        add(&mut look, "new", json!([one(0, 4, Some(5), 5)]));
        add(&mut look, "older", json!([one(0, 2, Some(99), 0)]));
        assert_eq!(look.partitions.len(), 1);
        assert_eq!(look.partitions[0].owner, "new");
    }

    #[test]
    fn rates_go_on_over_a_change_of_owners_and_are_never_negative() {
        let before = told(
            "a",
            json!([one(0, 1, Some(0), 100), one(1, 1, Some(0), 100)]),
        );
        let mut now = told(
            "b",
            json!([
                one(0, 2, Some(0), 300),
                one(1, 1, Some(0), 50),
                one(2, 1, None, 7)
            ]),
        );
        now.at = before.at.map(|at| at + Duration::from_secs(2));
        rate(&before, &mut now);
        let rates: Vec<_> = now
            .partitions
            .iter()
            .map(|partition| partition.rate)
            .collect();
        assert_eq!(rates, [Some(100.0), Some(0.0), None]);
    }

    #[test]
    fn the_furthest_behind_stands_first_and_before_it_what_nobody_knows() {
        let mut look = told(
            "a",
            json!([
                one(0, 1, Some(3), 1),
                one(1, 1, None, 1),
                one(2, 1, Some(70), 1)
            ]),
        );
        sort(&mut look.partitions, Order::Lag);
        let order: Vec<_> = look
            .partitions
            .iter()
            .map(|partition| partition.partition)
            .collect();
        assert_eq!(order, [1, 2, 0]);
        let text = anstream::adapter::strip_str(&shown(&look, 2)).to_string();
        assert!(
            text.contains("lag unknown") && text.contains("and 1 more"),
            "{text}"
        );
    }
}
