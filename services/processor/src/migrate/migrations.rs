//! The files of `sql/`, as this binary knows them.

use refinery_core::{Migration, Runner};

use crate::failpoints;

/// Each file by its name without `.sql`, oldest first.
const FILES: [(&str, &str); 11] = [
    ("V1__tables", include_str!("../../../../sql/V1__tables.sql")),
    ("V2__views", include_str!("../../../../sql/V2__views.sql")),
    (
        "V3__maintenance",
        include_str!("../../../../sql/V3__maintenance.sql"),
    ),
    (
        "V4__sessions",
        include_str!("../../../../sql/V4__sessions.sql"),
    ),
    (
        "V5__retention",
        include_str!("../../../../sql/V5__retention.sql"),
    ),
    ("V6__merge", include_str!("../../../../sql/V6__merge.sql")),
    ("V7__groups", include_str!("../../../../sql/V7__groups.sql")),
    (
        "V8__visitors",
        include_str!("../../../../sql/V8__visitors.sql"),
    ),
    (
        "V9__readers",
        include_str!("../../../../sql/V9__readers.sql"),
    ),
    (
        "V10__anchors",
        include_str!("../../../../sql/V10__anchors.sql"),
    ),
    ("V11__final", include_str!("../../../../sql/V11__final.sql")),
];

/// All of them.
pub fn all() -> Vec<Migration> {
    FILES[..failpoints::only("CLICKSTREAM_TEST_MIGRATIONS").unwrap_or(FILES.len())]
        .iter()
        .map(|(name, sql)| {
            Migration::unapplied(name, sql).expect("a test reads the names of all files")
        })
        .collect()
}

/// What applies them.
pub fn runner() -> Runner {
    Runner::new(&all())
}

#[cfg(test)]
mod tests {
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
        assert_eq!(FILES.map(|(name, _)| name.to_owned()).to_vec(), files);
        let versions: Vec<i32> = all().iter().map(Migration::version).collect();
        assert!(
            versions.is_sorted_by(|one, next| one < next),
            "{versions:?}"
        );
        Ok(())
    }
}
