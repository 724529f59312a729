//! The statements of docs/sql.md and docs/reader-role.md, on a real PostgreSQL that a real pipeline
//! has filled.

use anyhow::{Context as _, bail, ensure};
use clickstream_testbed::{Postgres, PostgresOptions};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};

use crate::{
    markdown::{Block, page},
    pipeline::{ONLOOKER, Pipeline, READER, last_hour_final, stored},
};

/// More than a day of traffic: somewhere it is another date than in UTC all the time.
const RECORDS: i64 = 100_000;

/// Half a world east and west of UTC.
const ZONES: [&str; 2] = ["Pacific/Auckland", "Pacific/Honolulu"];

/// As docs/reader-role.md names it.
const DATABASE: &str = "app";

#[tokio::test]
async fn every_recipe_gives_rows_to_the_read_only_role() -> anyhow::Result<()> {
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    postgres.create_database(DATABASE).await?;
    let admin = postgres.connect(DATABASE).await?;
    let [create, by_hand, take_back, behind] = &sql_of("docs/reader-role.md")[..] else {
        bail!(
            "docs/reader-role.md: blocks of SQL: create, grant, take back, how late a replica is"
        );
    };
    run(&admin, create).await?;
    admin
        .batch_execute(&format!(
            "create role {ONLOOKER} login; alter role {ONLOOKER} set search_path = clickstream"
        ))
        .await?;

    let pipeline = Pipeline::new().await?;
    let document = pipeline.document(DATABASE, postgres.port())?;
    pipeline.migrate(&document).await?;
    pipeline.produce(&document, RECORDS).await?;
    let processor = pipeline.start(&document)?;
    stored(&admin, RECORDS, &processor).await?;
    last_hour_final(&admin, &processor).await?;

    // the rights that the migration granted
    let dashboard = sign_in(&postgres, READER).await?;
    let onlooker = sign_in(&postgres, ONLOOKER).await?;
    let tables = tables(&admin).await?;
    let mut of_views = 0;
    let mut failures = Vec::new();
    let mut tried = 0;
    let set: i64 = dashboard
        .query_one(
            "select count(*) from pg_settings where source = 'user'
                and name in ('jit', 'work_mem', 'temp_file_limit', 'plan_cache_mode', 'statement_timeout')",
            &[],
        )
        .await?
        .get(0);
    ensure!(set == 5, "{set} of the settings are in force");
    let pages = [
        "docs/sql.md",
        "docs/power-bi.md",
        "docs/troubleshooting.md",
        "README.md",
    ];
    let mut blocks = pages.map(sql_of).concat();
    blocks.push(behind.clone());
    for block in &blocks {
        tried += 1;
        let silent = block
            .remark
            .as_deref()
            .is_some_and(|remark| remark.starts_with("no rows: "));
        match run(&dashboard, block).await {
            Err(error) => failures.push(format!("{error:#}")),
            Ok(rows) if (rows == 0) != silent => {
                failures.push(format!("{}: {rows} rows", block.at))
            }
            Ok(_) => {}
        }
        if let Err(error) = same_in_all_zones(&dashboard, block).await {
            failures.push(format!("{error:#}"));
        }
        // who may read views only gets as far as these go, and no further
        let asks_tables = asked(&block.text).any(|name| tables.iter().any(|table| table == name));
        of_views += usize::from(!asks_tables);
        match run(&onlooker, block).await {
            Ok(_) if !asks_tables => {}
            Ok(_) => failures.push(format!("{}: a reader of views may ask this", block.at)),
            Err(error) if asks_tables && refused(&error) => {}
            Err(error) => failures.push(format!("a reader of views: {error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    ensure!(tried > 25, "only {tried} statements were found");
    ensure!(of_views > 12, "only {of_views} of them ask views alone");

    // the rights that a person grants by hand, and takes back
    admin
        .batch_execute(&format!(
            "revoke all on all tables in schema clickstream from {READER}"
        ))
        .await?;
    run(&admin, by_hand).await?;
    dashboard
        .query_one("select sum(hits)::bigint from clickstream_agg_minute", &[])
        .await?;
    let forbidden = dashboard
        .query("select from clickstream_dead_letters", &[])
        .await;
    ensure!(
        forbidden.is_err(),
        "dead letters are readable without a grant"
    );
    drop(dashboard);
    run(&admin, take_back).await?;
    Ok(())
}

fn sql_of(path: &str) -> Vec<Block> {
    let mut blocks = page(path).blocks();
    blocks.retain(|block| block.language == "sql");
    blocks
}

/// How many rows the statements of a block give.
async fn run(client: &Client, block: &Block) -> anyhow::Result<usize> {
    let messages = client
        .simple_query(&block.text)
        .await
        .with_context(|| block.at.clone())?;
    let rows = messages
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    Ok(rows.count())
}

/// Runs a block in time zones far from each other, in one snapshot and at one `now()`: it must find
/// the same rows, written for another place. Plans hold times as text and are left out.
async fn same_in_all_zones(client: &Client, block: &Block) -> anyhow::Result<()> {
    if block.text.starts_with("explain") {
        return Ok(());
    }
    let mut found: Vec<Vec<String>> = Vec::new();
    client
        .batch_execute("begin isolation level repeatable read")
        .await?;
    for zone in ZONES {
        client
            .batch_execute(&format!("set local timezone = '{zone}'"))
            .await?;
        let rows = client
            .simple_query(&block.text)
            .await
            .with_context(|| block.at.clone());
        match rows {
            Ok(rows) => {
                let values = rows.iter().flat_map(values).collect();
                found.push(in_utc(client, values).await?);
            }
            Err(error) => {
                client.batch_execute("rollback").await?;
                return Err(error);
            }
        }
    }
    client.batch_execute("commit").await?;
    let [east, west] = &found[..] else {
        bail!("two zones");
    };
    let other = east.iter().zip(west).find(|(east, west)| east != west);
    ensure!(
        east.len() == west.len() && other.is_none(),
        "{}: {} values in {}, {} in {}: {other:?}",
        block.at,
        east.len(),
        ZONES[0],
        west.len(),
        ZONES[1]
    );
    Ok(())
}

/// The values of a row; nothing for null.
fn values(message: &SimpleQueryMessage) -> Vec<String> {
    let SimpleQueryMessage::Row(row) = message else {
        return Vec::new();
    };
    (0..row.len())
        .map(|column| row.get(column).unwrap_or_default().to_owned())
        .collect()
}

/// The same with what is a time and a zone in UTC.
async fn in_utc(client: &Client, values: Vec<String>) -> anyhow::Result<Vec<String>> {
    const TIME: &str = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:\d\d)?$";
    let rows = client
        .query(
            "select case when value ~ $2 then (value::timestamptz at time zone 'UTC')::text else value end
             from unnest($1::text[]) with ordinality as given (value, place)
             order by place",
            &[&values, &TIME],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The names of what only some may read.
async fn tables(admin: &Client) -> anyhow::Result<Vec<String>> {
    let rows = admin
        .query(
            "select relname from pg_class where relnamespace = 'clickstream'::regnamespace and relkind in ('r', 'p')",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The names that a statement reads from.
fn asked(sql: &str) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let after = words
        .windows(2)
        .filter(|pair| ["from", "join"].contains(&pair[0]))
        .map(|pair| pair[1].trim_matches([';', ',', ')', '(']))
        .map(|name| name.rsplit('.').next().unwrap_or(name))
        .collect::<Vec<_>>();
    after.into_iter()
}

fn refused(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code)
        == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

async fn sign_in(postgres: &Postgres, role: &str) -> anyhow::Result<Client> {
    let url = format!("postgres://{role}@127.0.0.1:{}/{DATABASE}", postgres.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
