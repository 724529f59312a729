//! The files of `sql/`, as this binary knows them.

use refinery_core::{Migration, Runner};

use crate::failpoints;

/// A file of `sql/`.
struct File {
    /// Its name without `.sql`.
    name: &'static str,
    /// What it brings, for the log.
    brings: &'static str,
    sql: &'static str,
}

/// Oldest first.
const FILES: [File; 15] = [
    File {
        name: "V1__tables",
        brings: "tables of events, windows, checkpoints and ledgers",
        sql: include_str!("../../../../sql/V1__tables.sql"),
    },
    File {
        name: "V2__views",
        brings: "views for readers",
        sql: include_str!("../../../../sql/V2__views.sql"),
    },
    File {
        name: "V3__maintenance",
        brings: "days, finality and retention as functions",
        sql: include_str!("../../../../sql/V3__maintenance.sql"),
    },
    File {
        name: "V4__sessions",
        brings: "writers known by their sessions",
        sql: include_str!("../../../../sql/V4__sessions.sql"),
    },
    File {
        name: "V5__retention",
        brings: "retention on a session of its own",
        sql: include_str!("../../../../sql/V5__retention.sql"),
    },
    File {
        name: "V6__merge",
        brings: "late events counted in their own windows",
        sql: include_str!("../../../../sql/V6__merge.sql"),
    },
    File {
        name: "V7__groups",
        brings: "consumer groups named after their cluster",
        sql: include_str!("../../../../sql/V7__groups.sql"),
    },
    File {
        name: "V8__visitors",
        brings: "distinct users and visits as sets of bits",
        sql: include_str!("../../../../sql/V8__visitors.sql"),
    },
    File {
        name: "V9__readers",
        brings: "readers of views only, statistics of all days",
        sql: include_str!("../../../../sql/V9__readers.sql"),
    },
    File {
        name: "V10__anchors",
        brings: "anchors of earlier processors completed",
        sql: include_str!("../../../../sql/V10__anchors.sql"),
    },
    File {
        name: "V11__final",
        brings: "no window final before it is over",
        sql: include_str!("../../../../sql/V11__final.sql"),
    },
    File {
        name: "V12__fields",
        brings: "more fields of events, several events in a record",
        sql: include_str!("../../../../sql/V12__fields.sql"),
    },
    File {
        name: "V13__admitted_pages",
        brings: "a bound for the pages of a window",
        sql: include_str!("../../../../sql/V13__admitted_pages.sql"),
    },
    File {
        name: "V14__property_keys",
        brings: "a list of the keys that properties have, and columns of any name",
        sql: include_str!("../../../../sql/V14__property_keys.sql"),
    },
    File {
        name: "V15__prompt_days",
        brings: "days that come and go while readers wait a tenth of a second at most",
        sql: include_str!("../../../../sql/V15__prompt_days.sql"),
    },
];

/// All of them.
pub fn all() -> Vec<Migration> {
    FILES[..failpoints::only("CLICKSTREAM_TEST_MIGRATIONS").unwrap_or(FILES.len())]
        .iter()
        .map(|file| {
            Migration::unapplied(file.name, file.sql).expect("a test reads the names of all files")
        })
        .collect()
}

/// What a migration brings, in a few words; its name where this binary does not know it.
pub fn brings(migration: &Migration) -> &str {
    FILES
        .iter()
        .find(|file| {
            file.name
                .split_once("__")
                .is_some_and(|(_, name)| name == migration.name())
        })
        .map_or(migration.name(), |file| file.brings)
}

/// What applies them.
pub fn runner() -> Runner {
    Runner::new(&all())
}

#[cfg(test)]
mod tests {
    use clickstream_protocol::migration::SCHEMA_VERSION;

    use super::*;

    #[test]
    fn every_file_is_known_under_its_name_and_in_order() -> std::io::Result<()> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql");
        let mut files: Vec<String> = std::fs::read_dir(folder)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
            .collect();
        files.sort_by_key(|name| {
            name.split("__")
                .next()
                .and_then(|version| version[1..].parse::<u32>().ok())
        });
        assert_eq!(FILES.map(|file| file.name.to_owned()).to_vec(), files);
        let versions: Vec<i32> = all().iter().map(Migration::version).collect();
        assert!(
            versions.is_sorted_by(|one, next| one < next),
            "{versions:?}"
        );
        assert_eq!(versions.last(), Some(&SCHEMA_VERSION));
        for migration in all() {
            assert_ne!(brings(&migration), migration.name());
        }
        Ok(())
    }
}
