//! Who may read what, from one migration to the next; and statistics, which only the owner of the
//! tables can take.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Postgres, PostgresOptions, PostgresVersion, shared, unique_name};
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::{
    records::{before, clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A pipeline with a role that reads views and one that reads tables.
struct Readers {
    stack: Stack,
    plain: String,
    raw: String,
}

impl Readers {
    async fn new(version: PostgresVersion) -> anyhow::Result<Self> {
        let postgres = shared::postgres(version).await?;
        let (plain, raw) = (unique_name("plain"), unique_name("raw"));
        let admin = postgres.connect("postgres").await?;
        for role in [&plain, &raw] {
            admin
                .batch_execute(&format!("create role {role} login"))
                .await?;
        }
        let stack = Stack::new(StackOptions {
            partitions: 1,
            postgres: version,
            target: format!("    readers: [{plain}]\n    rawReaders: [{raw}]\n"),
            ..StackOptions::default()
        })
        .await?;
        Ok(Self { stack, plain, raw })
    }

    /// Another list of roles, and a migration.
    async fn migrated_with(&self, from: &str, to: &str) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.stack.document)?;
        ensure!(text.contains(from), "{text}");
        std::fs::write(&self.stack.document, text.replace(from, to))?;
        let (code, said) = self.stack.command(&["migrate"]).await?;
        ensure!(code == 0, "{said}");
        Ok(said)
    }

    async fn sign_in(&self, role: &str) -> anyhow::Result<Client> {
        let address = format!(
            "postgres://{role}@127.0.0.1:{}/{}",
            self.stack.postgres.port(),
            self.stack.database
        );
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute("set search_path = clickstream")
            .await?;
        Ok(client)
    }

    async fn add_day(&self, days_ago: i32) -> anyhow::Result<()> {
        let made: String = self
            .stack
            .client
            .query_one(
                "select clickstream_add_day((now() at time zone 'UTC')::date - $1::int, 100)",
                &[&days_ago],
            )
            .await?
            .get(0);
        ensure!(made == "created", "{made}");
        Ok(())
    }

    /// The names of all relations of this kind: `v`, or `rp`.
    async fn relations(&self, kinds: &str) -> anyhow::Result<Vec<String>> {
        let rows = self
            .stack
            .client
            .query(
                "select relname from pg_class where relnamespace = 'clickstream'::regnamespace
                    and position(relkind::text in $1) > 0 order by 1",
                &[&kinds],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether the role can read every view, and every table or none of them; days are tables.
    async fn reads(&self, role: &str, tables: bool) -> anyhow::Result<()> {
        let client = self.sign_in(role).await?;
        let views = self.relations("v").await?;
        ensure!(views.len() >= 6, "{views:?}");
        for view in &views {
            client
                .query(&format!("select * from {view} limit 1"), &[])
                .await
                .with_context(|| format!("{role} reads {view}"))?;
        }
        client
            .query(
                "select * from clickstream_visitors(now() - interval '1 day', now())",
                &[],
            )
            .await
            .with_context(|| format!("{role} counts visitors"))?;
        let names = self.relations("rp").await?;
        let days = names
            .iter()
            .filter(|name| name.starts_with("clickstream_events_2"));
        ensure!(days.count() > 0, "{names:?}");
        for table in &names {
            let answer = client
                .query(&format!("select from {table} limit 1"), &[])
                .await;
            match answer {
                Ok(_) => ensure!(tables, "{role} reads {table}"),
                Err(error) => ensure!(
                    !tables && error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                    "{role} reads {table}: {error:?}"
                ),
            }
        }
        Ok(())
    }

    async fn has(&self, role: &str, table: &str, privileges: &str) -> anyhow::Result<bool> {
        let row = self
            .stack
            .client
            .query_one(
                "select bool_and(has_table_privilege($1::text::name, $2::text, privilege)) from unnest(string_to_array($3, ',')) as privilege",
                &[&role, &table, &privileges],
            )
            .await?;
        Ok(row.get(0))
    }
}

#[tokio::test]
async fn a_reader_reads_the_views_and_no_table_and_a_raw_reader_both() -> anyhow::Result<()> {
    for version in [PostgresVersion::V15, PostgresVersion::V18] {
        let readers = Readers::new(version).await?;
        readers.add_day(1).await?;
        readers.reads(&readers.plain, false).await?;
        readers.reads(&readers.raw, true).await?;
        // one that is made after both have signed in once
        readers.add_day(2).await?;
        readers.reads(&readers.plain, false).await?;
        readers.reads(&readers.raw, true).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_migration_takes_the_tables_from_who_is_no_raw_reader_and_nothing_from_others()
-> anyhow::Result<()> {
    let readers = Readers::new(PostgresVersion::V18).await?;
    let client = &readers.stack.client;
    // more days than are taken away at once
    for day in 1..=120 {
        readers.add_day(day).await?;
    }
    client
        .batch_execute("select clickstream_detach_day((now() at time zone 'UTC')::date - 120)")
        .await?;
    let other = unique_name("other");
    client
        .batch_execute(&format!(
            "create role {other} login;
             grant usage on schema clickstream to {other};
             grant select on clickstream_events, clickstream_dead_letters to {other};
             set role {};
             create table by_hand (number int);
             reset role;
             grant select on by_hand to {}, {};
             grant select (url, ip) on clickstream_late_events to {}",
            readers.stack.owner, readers.plain, readers.raw, readers.plain
        ))
        .await?;
    readers
        .migrated_with(
            &format!(
                "readers: [{}]\n    rawReaders: [{}]",
                readers.plain, readers.raw
            ),
            &format!("readers: [{}, {}]", readers.raw, readers.plain),
        )
        .await?;
    let column =
        "select has_any_column_privilege($1::text::name, 'clickstream_late_events', 'SELECT')";
    let left: bool = client.query_one(column, &[&readers.plain]).await?.get(0);
    assert!(!left, "columns of a table are readable");
    for role in [&readers.plain, &readers.raw] {
        assert!(readers.has(role, "by_hand", "SELECT").await?);
    }
    client.batch_execute("drop table by_hand").await?;
    readers.reads(&readers.plain, false).await?;
    readers.reads(&readers.raw, false).await?;
    readers.add_day(121).await?;
    readers.reads(&readers.raw, false).await?;
    assert!(readers.has(&other, "clickstream_events", "SELECT").await?);
    assert!(
        readers
            .has(&other, "clickstream_dead_letters", "SELECT")
            .await?
    );

    // and back
    readers
        .migrated_with(
            &format!("readers: [{}, {}]", readers.raw, readers.plain),
            &format!(
                "readers: [{}]\n    rawReaders: [{}]",
                readers.plain, readers.raw
            ),
        )
        .await?;
    readers.reads(&readers.plain, false).await?;
    readers.reads(&readers.raw, true).await
}

#[tokio::test]
async fn owner_and_writer_lose_nothing_as_readers_and_other_ways_to_the_tables_are_told()
-> anyhow::Result<()> {
    let readers = Readers::new(PostgresVersion::V18).await?;
    let document = std::fs::read_to_string(&readers.stack.document)?;
    let writer = document
        .lines()
        .find_map(|line| line.strip_prefix("      user: "))
        .context("a writer")?
        .to_owned();
    let owner = &readers.stack.owner;
    let client = &readers.stack.client;
    let said = readers
        .migrated_with(
            &format!("readers: [{}]", readers.plain),
            &format!("readers: [{}, {writer}, {owner}]", readers.plain),
        )
        .await?;
    assert!(!said.contains("can read tables all the same"), "{said}");
    let everything = "SELECT,INSERT,UPDATE,DELETE";
    for role in [&writer, owner] {
        assert!(readers.has(role, "clickstream_events", everything).await?);
        assert!(
            readers
                .has(role, "clickstream_checkpoints", everything)
                .await?
        );
    }
    client
        .batch_execute("grant select on clickstream_late_events to public")
        .await?;
    let (code, said) = readers.stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("can read tables all the same"), "{said}");
    Ok(())
}

/// Kubernetes keeps 4,096 bytes of what a migration reports, and without it the operator knows
/// nothing of the tables.
#[tokio::test]
async fn a_report_holds_all_roles_that_do_not_exist_and_stays_small() -> anyhow::Result<()> {
    let readers = Readers::new(PostgresVersion::V18).await?;
    let list = |kind: &str| {
        let names: Vec<String> = (0..32)
            .map(|number| format!("{kind}_{number}_of_us"))
            .collect();
        names.join(", ")
    };
    readers
        .migrated_with(
            &format!(
                "readers: [{}]\n    rawReaders: [{}]",
                readers.plain, readers.raw
            ),
            &format!(
                "readers: [{}]\n    rawReaders: [{}]",
                list("chart"),
                list("table")
            ),
        )
        .await?;
    let path = readers.stack.document.with_file_name("report.json");
    let file = path.display().to_string();
    let (code, said) = readers
        .stack
        .command(&["migrate", "--report", &file])
        .await?;
    assert_eq!(code, 0, "{said}");
    let report = std::fs::read_to_string(&path)?;
    assert!(report.len() < 4_096, "{} bytes: {report}", report.len());
    for role in ["chart_0_of_us", "chart_31_of_us", "table_31_of_us"] {
        assert!(report.contains(role), "{role}: {report}");
    }
    assert!(report.contains("grant select on all tables"), "{report}");
    assert!(report.contains("clickstream_agg_minute"), "{report}");
    Ok(())
}

/// The release before granted every table to every reader.
#[tokio::test]
async fn an_upgrade_takes_what_the_release_before_granted_and_analyses_the_tables()
-> anyhow::Result<()> {
    let readers = Readers::new(PostgresVersion::V15).await?;
    let stack = &readers.stack;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    let before = [("CLICKSTREAM_TEST_MIGRATIONS", "7")];
    let (code, said) = stack.command_with(&["migrate"], &before).await?;
    assert_eq!(code, 0, "{said}");
    readers.add_day(1).await?;
    for role in [&readers.plain, &readers.raw] {
        stack
            .client
            .batch_execute(&format!(
                "grant select on all tables in schema clickstream to {role}"
            ))
            .await?;
    }
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    readers.reads(&readers.plain, false).await?;
    readers.reads(&readers.raw, true).await?;
    let analysed = "select count(*) from pg_stat_user_tables
        where relname in ('clickstream_checkpoints', 'clickstream_agg_lanes', 'clickstream_traffic_parts') and last_analyze is not null";
    assert_eq!(stack.count(analysed).await?, 3, "{said}");
    Ok(())
}

/// What the planner knows of all days together, and what a day's index knows of its last rows.
async fn statistics(version: PostgresVersion) -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        postgres: version,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start_with("one", &[("CLICKSTREAM_TEST_UPKEEP_MS", "100")])?;
    let mut records = Vec::new();
    for (days, numbers) in [(1, 0..400), (0, 400..800)] {
        let events = clicks(numbers, before(now(), DAY * days));
        records.extend(events.iter().map(|click| click.on(0)));
    }
    stack.place(records).await?;
    stack.drained().await?;
    stack
        .eventually(
            "both days have a partition",
            "select count(*) >= 2 from clickstream_days() where day <= (now() at time zone 'UTC')::date",
        )
        .await?;
    let days = stack
        .client
        .query(
            "select format('analyze clickstream_events_%s', to_char(day, 'YYYYMMDD')) from clickstream_days()",
            &[],
        )
        .await?;
    for day in &days {
        // which autovacuum does, a minute later
        stack.client.batch_execute(day.get(0)).await?;
    }
    stack
        .eventually(
            "the planner knows how many users all days together have",
            "select exists (select from pg_stats where schemaname = 'clickstream' and tablename = 'clickstream_events' and inherited and attname = 'user_id')",
        )
        .await?;
    end(&processor).await?;
    let pending = "select coalesce(sum(clickstream_summarise_day(day)), 0) from clickstream_days() where day < (now() at time zone 'UTC')::date";
    assert_eq!(stack.count(pending).await?, 0);
    assert!(!processor.log().contains(" ERROR "), "{}", processor.log());
    Ok(())
}

#[tokio::test]
async fn days_that_are_over_are_summarised_and_all_days_are_analysed_as_one() -> anyhow::Result<()>
{
    statistics(PostgresVersion::V18).await
}

#[tokio::test]
async fn so_they_are_on_a_server_that_analyses_each_day_with_them() -> anyhow::Result<()> {
    statistics(PostgresVersion::V15).await
}

/// A day takes locks, and those of the server are for everybody.
#[tokio::test]
async fn days_that_do_not_fit_the_table_of_locks_are_not_analysed_as_one() -> anyhow::Result<()> {
    for (version, fit) in [(PostgresVersion::V15, 6), (PostgresVersion::V18, 24)] {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let postgres = Postgres::start(PostgresOptions {
            version,
            settings: vec![
                setting("max_connections", "20"),
                setting("max_locks_per_transaction", "10"),
                setting("autovacuum", "off"),
            ],
            ..PostgresOptions::default()
        })
        .await?;
        postgres.create_database("few").await?;
        let client = postgres.connect("few").await?;
        client
            .batch_execute("create schema clickstream; set search_path = clickstream, pg_catalog")
            .await?;
        for migration in migrations()? {
            client
                .batch_execute(&format!("begin; {migration}; commit"))
                .await?;
        }
        let add = async |day: i32| {
            client
                .query_one(
                    "select clickstream_add_day('2026-01-01'::date + $1::int, 100)",
                    &[&day],
                )
                .await
        };
        let analyse = async || -> anyhow::Result<String> {
            client
                .batch_execute(
                    "update pg_class set reltuples = 1000 where oid = 'clickstream_events_default'::regclass;
                     update pg_class set reltuples = -1 where oid = 'clickstream_events'::regclass",
                )
                .await?;
            let row = client
                .query_one("select clickstream_analyze_events()", &[])
                .await?;
            Ok(row.get(0))
        };
        // with the default partition they are one more
        for day in 1..fit {
            add(day).await?;
        }
        assert_eq!(analyse().await?, "analysed", "{version:?}");
        for day in fit..fit + 3 {
            add(day).await?;
        }
        assert_eq!(analyse().await?, "left", "{version:?}");
    }
    Ok(())
}

/// The files of `sql/`, oldest first.
fn migrations() -> anyhow::Result<Vec<String>> {
    let folder = clickstream_testbed::workspace_root().join("sql");
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.trim_start_matches('V')
            .split("__")
            .next()
            .and_then(|version| version.parse::<u32>().ok())
    });
    let texts = files.iter().map(std::fs::read_to_string);
    Ok(texts.collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn a_role_that_is_no_reader_any_more_loses_its_rights_and_one_granted_by_hand_keeps_them()
-> anyhow::Result<()> {
    let readers = Readers::new(PostgresVersion::V18).await?;
    let (plain, raw) = (readers.plain.clone(), readers.raw.clone());
    let migrated = readers.stack.command(&["migrate"]).await?;
    ensure!(migrated.0 == 0, "{}", migrated.1);
    readers.add_day(3).await?;
    let by_hand = unique_name("by_hand");
    readers
        .stack
        .client
        .batch_execute(&format!(
            "create role {by_hand} login;
             grant usage on schema clickstream to {by_hand};
             grant select on clickstream.clickstream_traffic_minute, clickstream.clickstream_events to {by_hand};
             create table clickstream.mine (n int);
             do $$ begin execute (select format('alter table clickstream.mine owner to %I', relowner::regrole)
                 from pg_class where oid = 'clickstream.clickstream_events'::regclass); end $$;
             grant select on clickstream.mine to {raw}"
        ))
        .await?;
    let said = readers
        .migrated_with(
            &format!("    readers: [{plain}]\n    rawReaders: [{raw}]\n"),
            "",
        )
        .await?;
    for role in [&plain, &raw] {
        ensure!(said.contains(role.as_str()), "{said}");
        for kinds in ["v", "rp"] {
            for name in readers.relations(kinds).await? {
                let ours = name.starts_with("clickstream_");
                let table = format!("clickstream.{name}");
                for right in ["SELECT", "REFERENCES"] {
                    ensure!(
                        !ours || !readers.has(role, &table, right).await?,
                        "{role} keeps {right} on {name}"
                    );
                }
            }
        }
    }
    // somebody's own table is left to one of them
    for (role, keeps) in [(&plain, false), (&raw, true)] {
        let asked = "select has_schema_privilege($1::text::name, 'clickstream', 'usage')";
        let row = readers.stack.client.query_one(asked, &[role]).await?;
        ensure!(row.get::<_, bool>(0) == keeps, "{role} may use the schema");
    }
    for name in ["clickstream_traffic_minute", "clickstream_events"] {
        let table = format!("clickstream.{name}");
        ensure!(readers.has(&by_hand, &table, "SELECT").await?, "{name}");
    }
    // nothing is left to take
    let (code, again) = readers.stack.command(&["migrate"]).await?;
    ensure!(
        code == 0 && !again.contains("no reader any more"),
        "{again}"
    );
    Ok(())
}
