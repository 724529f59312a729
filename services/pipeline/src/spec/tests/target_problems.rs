use super::problems::{duration, problems, text};
use super::*;

#[test]
fn targets_are_one_to_eight_that_do_not_meet() {
    problems(|p| p.spec.targets.clear(), &["spec.targets"]);
    problems(
        |p| p.spec.targets[1].name = text("warehouse"),
        &["spec.targets[1].name"],
    );
    let targets = |count: usize| -> Vec<TargetSpec> {
        (0..count)
            .map(|i| TargetSpec {
                name: format!("t{i}"),
                schema: format!("s{i}"),
                ..full().spec.targets[1].clone()
            })
            .collect()
    };
    problems(|p| p.spec.targets = targets(8), &[]);
    problems(|p| p.spec.targets = targets(9), &["spec.targets"]);
    for name in ["", "A", "a.b", &"n".repeat(21)] {
        problems(
            |p| p.spec.targets[0].name = text(name),
            &["spec.targets[0].name"],
        );
    }
    // one schema: of the same Secret, of the same host by different Secrets, and, harmless, of
    // different Secrets
    problems(
        |p| {
            p.spec.targets = targets(2);
            p.spec.targets[1].schema = text("s0");
        },
        &["spec.targets[1].schema"],
    );
    problems(
        |p| {
            let mut other = p.spec.targets[0].clone();
            other.name = text("other");
            other.connection.secret.as_mut().unwrap().name = text("other");
            p.spec.targets[1] = other;
        },
        &["spec.targets[1].schema"],
    );
    problems(
        |p| {
            p.spec.targets = targets(2);
            p.spec.targets[1].schema = text("s0");
            p.spec.targets[1].connection.secret.as_mut().unwrap().name = text("other");
        },
        &[],
    );
}

#[test]
fn schemas_need_no_quotes_and_are_not_postgresqls_own() {
    for schema in [
        "",
        "Clicks",
        "1a",
        "a-b",
        "a\"",
        "ä",
        "pg_clicks",
        "information_schema",
        &"s".repeat(64),
    ] {
        problems(
            |p| p.spec.targets[0].schema = text(schema),
            &["spec.targets[0].schema"],
        );
    }
    problems(|p| p.spec.targets[0].schema = "s".repeat(63), &[]);
}

#[test]
fn a_connection_without_a_secret_is_complete_in_itself() {
    problems(
        |p| p.spec.targets[1].connection = ConnectionSpec::default(),
        &[
            "spec.targets[1].connection.host",
            "spec.targets[1].connection.database",
            "spec.targets[1].connection.user",
        ],
    );
}

#[test]
fn a_connection_has_names_that_postgresql_takes() {
    for host in ["", "a b", "a:5432", "/tmp", "[::1]", ".a"] {
        problems(
            |p| p.spec.targets[0].connection.host = Some(text(host)),
            &["spec.targets[0].connection.host"],
        );
    }
    problems(
        |p| p.spec.targets[0].connection.host = Some(text("::1")),
        &[],
    );
    problems(
        |p| p.spec.targets[0].connection.port = Some(0),
        &["spec.targets[0].connection.port"],
    );
    for name in ["", "a\0b", &"d".repeat(64)] {
        problems(
            |p| p.spec.targets[0].connection.database = Some(text(name)),
            &["spec.targets[0].connection.database"],
        );
        problems(
            |p| p.spec.targets[0].connection.user = Some(text(name)),
            &["spec.targets[0].connection.user"],
        );
        problems(
            |p| p.spec.targets[0].readers[1] = text(name),
            &["spec.targets[0].readers[1]"],
        );
    }
    problems(
        |p| p.spec.targets[0].connection.ssl_mode = Some(SslMode::Disable),
        &["spec.targets[0].connection.sslMode"],
    );
}

#[test]
fn readers_are_different_and_few() {
    problems(
        |p| p.spec.targets[0].readers[1] = text("grafana"),
        &["spec.targets[0].readers[1]"],
    );
    let roles = |count: usize| -> Vec<String> { (0..count).map(|i| format!("r{i}")).collect() };
    problems(|p| p.spec.targets[0].readers = roles(32), &[]);
    problems(
        |p| p.spec.targets[0].readers = roles(33),
        &["spec.targets[0].readers"],
    );
}

#[test]
fn roles_that_read_tables_are_neither_plain_readers_nor_the_writer() {
    let raw = |role: &str, problem: &[&str]| {
        problems(
            |p| p.spec.targets[0].raw_readers = vec![text("console"), text(role)],
            problem,
        );
    };
    raw("analyst", &[]);
    for role in ["console", "grafana", "", "a\0b"] {
        raw(role, &["spec.targets[0].rawReaders[1]"]);
    }
    problems(
        |p| {
            let target = &mut p.spec.targets[0];
            target.connection.user = Some(text("writer"));
            target.raw_readers = vec![text("writer")];
        },
        &["spec.targets[0].rawReaders[0]"],
    );
    // a resource that was accepted before there was `rawReaders` stays so
    problems(
        |p| {
            let target = &mut p.spec.targets[0];
            target.connection.user = Some(text("writer"));
            target.readers = vec![text("writer")];
        },
        &[],
    );
}

#[test]
fn rows_are_kept_for_at_least_a_day() {
    let kept = |change: fn(&mut RetentionSpec), field: &str| {
        let path = format!("spec.targets[0].retention.{field}");
        problems(
            |p| change(&mut p.spec.targets[0].retention),
            &[path.as_str()],
        );
    };
    kept(|r| r.events = Some("23h".parse().unwrap()), "events");
    kept(
        |r| r.aggregates = Some("23h".parse().unwrap()),
        "aggregates",
    );
    kept(
        |r| r.late_events = Some("23h".parse().unwrap()),
        "lateEvents",
    );
    kept(
        |r| r.dead_letters = Some("59m".parse().unwrap()),
        "deadLetters",
    );
    kept(|r| r.events = Some("876001h".parse().unwrap()), "events");
    problems(
        |p| p.spec.targets[0].retention.events = Some(duration("24h")),
        &[],
    );
}
