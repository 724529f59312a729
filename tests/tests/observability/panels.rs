//! Every expression of the boards about pipelines, on real servers with real traffic: each must
//! give data.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{PostgresVersion, shared, unique_name, workspace_root};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{
    dashboards::boards,
    records::{Click, before, clicks, now},
    rules::{alerts, rules},
    scene::{LOOK, PATIENCE, Scene, all_give_data, filled_in, label_values, while_that_goes_on},
    stack::{Stack, StackOptions},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_about_pipelines_has_data_behind_it() -> anyhow::Result<()> {
    let (views_only, everything) = (role("views").await?, role("everything").await?);
    let options = StackOptions {
        spec: "  watermark:\n    idleTimeout: 1s\n  events:\n    bots: Mark\n".to_owned(),
        target: format!("    readers: [{views_only}]\n    rawReaders: [{everything}]\n"),
        ..StackOptions::default()
    };
    let scene = Scene::new(options, &rules(&[])?).await?;
    // a topic of which everything is kept has no headroom to show
    let week = [("retention.ms", "604800000")];
    scene
        .stack
        .kafka
        .alter_topic(&scene.stack.topic, &week)
        .await?;
    let _first = scene.processor("processor-0")?;
    // everything that a board can show happens once; first hits for windows that were final, on a
    // partition that was idle
    revise_final_windows(&scene.stack).await?;
    // bad, late and repeated records, tombstones, a rebalance, a lost session
    let _producer = scene
        .producer(
            200,
            &["--malformed", "0.05", "--late", "0.02", "--users", "50"],
        )
        .await?;
    scene
        .stack
        .produce(GeneratorOptions::default(), 2_000)
        .await?;
    scene.stack.send(vec![("gone".to_owned(), None)]).await?;
    scene
        .stack
        .eventually(
            "rows are stored",
            "select count(*) > 500 from clickstream_events",
        )
        .await?;
    let _second = scene.processor("processor-1")?;
    all_give_data(
        &scene.prometheus,
        vec![(
            "a second processor".to_owned(),
            "count(clickstream_sink_up) == 2".to_owned(),
        )],
    )
    .await?;
    let boards = boards();
    let mut expressions = Vec::new();
    for board in boards.iter().filter(|board| board.name != "operator") {
        for query in board.queries().into_iter().filter(|query| !query.is_sql) {
            expressions.push((query.place, filled_in(&query.text)));
        }
        for query in board.variable_queries() {
            let expression = label_values(&query).with_context(|| query.clone())?;
            expressions.push((format!("{}: {query}", board.name), expression));
        }
    }
    ensure!(expressions.len() > 60, "{} expressions", expressions.len());
    expressions.extend(metrics_of_alerts(|name| {
        !name.starts_with("clickstream_pipeline_")
    })?);
    // sessions that an administrator ends, now and again in the middle of a flush; events of
    // programs, with addresses that are none, which are cleaned
    let ends = async {
        for number in 3_000_000.. {
            scene.stack.send(vec![crawl(number)]).await?;
            scene.stack.count("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    while_that_goes_on(ends, all_give_data(&scene.prometheus, expressions)).await?;

    // boards do with the views
    let reader = sign_in(&scene, &views_only).await?;
    let mut queries = 0;
    for query in boards.iter().flat_map(|board| board.queries()) {
        if query.is_sql {
            queries += 1;
            returns_rows(&reader, &query.place, &query.text).await?;
        }
    }
    ensure!(queries > 10, "{queries} queries");
    let reader = sign_in(&scene, &everything).await?;
    for (runbook, language, query) in runbook_queries()? {
        // what they look for may well not be there; they must be understood
        match language.as_str() {
            "sql" => drop(
                reader
                    .simple_query(&query)
                    .await
                    .with_context(|| format!("{runbook}: {query}"))?,
            ),
            "promql" => drop(
                scene
                    .prometheus
                    .query(&query)
                    .await
                    .with_context(|| runbook)?,
            ),
            other => anyhow::bail!("{runbook}: nobody runs blocks of {other}"),
        }
    }
    scene.stack.audit().await?;
    Ok(())
}

/// A click of a program whose sender did not know its address.
fn crawl(number: u64) -> (String, Option<Vec<u8>>) {
    let json = Click::new(number, now()).json();
    let more = br#","ip":"-","user_agent":"curl/8.7.1"}"#;
    let value = [&json[..json.len() - 1], more].concat();
    (format!("program-{number}"), Some(value))
}

/// Brings three partitions to the present, and then events of three hours ago to the fourth.
async fn revise_final_windows(stack: &Stack) -> anyhow::Result<()> {
    let at = now();
    let mut placed = Vec::new();
    for partition in 1..4 {
        // some for windows of the last hour that will be final, then those that move the clock on
        let first = 1_000_000 + u64::try_from(partition)? * 100;
        let earlier = clicks(first..first + 10, before(at, Duration::from_secs(1_800)));
        let present = clicks(first + 10..first + 50, at);
        placed.extend(
            earlier
                .iter()
                .chain(&present)
                .map(|click| click.on(partition)),
        );
    }
    stack.place(placed).await?;
    stack
        .eventually(
            "windows of this hour are final",
            "select coalesce(final_until > now() - interval '1 hour', false) from clickstream_finality",
        )
        .await?;
    let past = clicks(
        2_000_000..2_000_020,
        before(at, Duration::from_secs(3 * 3_600)),
    );
    stack
        .place(past.iter().map(|click| click.on(0)).collect())
        .await?;
    stack
        .eventually(
            "a final window was revised",
            "select sum(revised) > 0 from clickstream_checkpoints",
        )
        .await
}

/// Each metric that an alert asks for, as an expression of its own: an alert on a name that nobody
/// exports never fires.
pub fn metrics_of_alerts(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<(String, String)>> {
    let name = regex::Regex::new("clickstream_[a-z_]+")?;
    let mut metrics = Vec::new();
    for alert in alerts()? {
        let text = alert.text.split("annotations:").next().unwrap_or_default();
        for found in name.find_iter(text) {
            if wanted(found.as_str()) {
                metrics.push((alert.name.clone(), found.as_str().to_owned()));
            }
        }
    }
    Ok(metrics)
}

/// Every fenced block of every runbook: file, language and text.
fn runbook_queries() -> anyhow::Result<Vec<(String, String, String)>> {
    let block = regex::Regex::new(r"(?s)```([a-z]+)\n(.*?)\n```")?;
    let mut queries = Vec::new();
    for entry in fs::read_dir(workspace_root().join("docs/runbooks"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        ensure!(block.is_match(&text), "{}: no query", path.display());
        for found in block.captures_iter(&text) {
            let file = path.display().to_string();
            queries.push((file, found[1].to_owned(), found[2].to_owned()));
        }
    }
    Ok(queries)
}

/// A role as docs/reader-role.md makes it, for the migration to grant it what its list may read.
async fn role(name: &str) -> anyhow::Result<String> {
    let role = unique_name(name);
    let admin = shared::postgres(PostgresVersion::V18)
        .await?
        .connect("postgres")
        .await?;
    admin
        .batch_execute(&format!(
            "create role {role} login;
             alter role {role} set default_transaction_read_only = on;
             alter role {role} set search_path = clickstream"
        ))
        .await?;
    Ok(role)
}

/// A session of this role.
async fn sign_in(scene: &Scene, role: &str) -> anyhow::Result<Client> {
    let stack = &scene.stack;
    let address = format!(
        "postgres://{role}@127.0.0.1:{}/{}",
        stack.postgres.port(),
        stack.database
    );
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs a query as Grafana would, until it returns a value in every column: with points of a
/// minute, and of an hour.
async fn returns_rows(client: &Client, place: &str, query: &str) -> anyhow::Result<()> {
    for minutes in [1, 60] {
        gives_rows(client, place, &with_macros(query, minutes)?).await?;
    }
    Ok(())
}

async fn gives_rows(client: &Client, place: &str, query: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let answer = client
            .simple_query(query)
            .await
            .with_context(|| format!("{place}: {query}"))?;
        let rows: Vec<_> = answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        let has_value = rows.first().is_some_and(|row| {
            (0..row.len()).all(|at| rows.iter().any(|row| row.get(at).is_some()))
        });
        if has_value {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{place}: no rows: {query}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Grafana's macros, for the last hour, with a point for so many minutes.
fn with_macros(query: &str, minutes: u64) -> anyhow::Result<String> {
    let filter = regex::Regex::new(r"\$__timeFilter\(([a-z_.]+)\)")?;
    let group = regex::Regex::new(r"\$__timeGroupAlias\(([a-z_.]+), \$__interval\)")?;
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let from = until - Duration::from_secs(3_600).as_secs();
    let seconds = minutes * 60;
    let query = filter.replace_all(
        query,
        format!(
            "$1 between to_timestamp({from}) and to_timestamp({})",
            until + 60
        ),
    );
    let query = group.replace_all(
        &query,
        format!("floor(extract(epoch from $1) / {seconds}) * {seconds} as \"time\""),
    );
    let query = query.replace("$__interval_ms", &(seconds * 1_000).to_string());
    ensure!(!query.contains("$_"), "a macro is left: {query}");
    Ok(query)
}
