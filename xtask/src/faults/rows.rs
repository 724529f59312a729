//! The rows: what happens, what must hold, and the tests that make it happen.

mod kafka;
mod postgres;
mod processors;
mod surroundings;

/// The row whose test chooses faults for as long as it is told.
pub const SOAK: u8 = 51;

/// A fault.
#[derive(Debug)]
pub struct Row {
    /// Its number, which stays the same.
    pub number: u8,
    /// What happens.
    pub what: &'static str,
    /// What must hold, beside the audit: every record of the log is in the tables exactly once.
    pub holds: &'static str,
    /// The tests that make it happen; none where it is not run.
    pub tests: &'static [Test],
    /// What is left out, or why there is no test.
    pub without: &'static str,
    /// Whether its tests take less than ten seconds on an idle machine, the start of servers
    /// included.
    pub quick: bool,
}

/// A test of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// The test target.
    pub target: &'static str,
    /// Its path in the target.
    pub name: &'static str,
}

/// All rows, by their numbers.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        processors::ROWS,
        postgres::ROWS,
        kafka::ROWS,
        surroundings::ROWS,
    ]
    .into_iter()
    .flatten()
}

impl Row {
    const fn new(
        number: u8,
        what: &'static str,
        holds: &'static str,
        tests: &'static [Test],
    ) -> Self {
        Self {
            number,
            what,
            holds,
            tests,
            without: "",
            quick: false,
        }
    }

    const fn quick(self) -> Self {
        Self {
            quick: true,
            ..self
        }
    }

    const fn without(self, without: &'static str) -> Self {
        Self { without, ..self }
    }

    /// As people write it.
    pub fn name(&self) -> String {
        format!("F{}", self.number)
    }
}

const fn end_to_end(name: &'static str) -> Test {
    Test {
        target: "end_to_end",
        name,
    }
}

const fn operator(name: &'static str) -> Test {
    Test {
        target: "operator_api",
        name,
    }
}

const fn kafka_tls(name: &'static str) -> Test {
    Test {
        target: "kafka_tls",
        name,
    }
}

/// The engine with crashes, lost answers, zombies and rebalances at every step, in memory.
const SIMULATION: Test = Test {
    target: "simulation",
    name: "every_seed_ends_with_the_tables_that_log_and_spec_demand",
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::fs;
    use std::path::PathBuf;

    use clickstream_tools::workspace_root;

    use super::*;

    /// The file of a test, if there is one.
    fn source(test: &Test) -> Option<PathBuf> {
        let root = workspace_root();
        let services = fs::read_dir(root.join("services")).unwrap();
        let folders = services.map(|service| service.unwrap().path().join("tests"));
        let mut modules: Vec<&str> = test.name.split("::").collect();
        modules.pop();
        let path = modules.join("/");
        let candidates = folders
            .chain([root.join("tests/tests")])
            .flat_map(|folder| {
                let target = folder.join(test.target);
                if modules.is_empty() {
                    vec![target.join("main.rs"), target.with_extension("rs")]
                } else {
                    let file = target.join(&path);
                    vec![file.with_extension("rs"), file.join("mod.rs")]
                }
            });
        candidates.into_iter().find(|file| file.is_file())
    }

    #[test]
    fn every_row_is_there_once_and_in_order() {
        let numbers: Vec<u8> = rows().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=52).collect::<Vec<_>>());
    }

    #[test]
    fn every_test_of_the_table_exists() {
        for row in rows() {
            for test in row.tests {
                let file = source(test).unwrap_or_else(|| panic!("{test:?}: no such file"));
                let text = fs::read_to_string(&file).unwrap();
                let name = test.name.rsplit("::").next().unwrap();
                let (before, _) = text
                    .split_once(&format!("fn {name}("))
                    .unwrap_or_else(|| panic!("{test:?}: not in {}", file.display()));
                // its attributes: what stands between the end of the item before and its name
                let attributes = before.rsplit("\n}").next().unwrap();
                let is_test = attributes.contains("test]") || attributes.contains("test(");
                assert!(is_test, "{test:?} is no test");
            }
        }
    }

    #[test]
    fn a_row_has_tests_or_says_why_not_and_nearly_all_have() {
        for row in rows() {
            assert!(!row.tests.is_empty() || !row.without.is_empty(), "{row:?}");
            assert!(!row.tests.is_empty() || !row.quick, "{row:?}");
            assert!(
                !row.what.contains('|') && !row.holds.contains('|'),
                "{row:?}"
            );
            assert!(row.what.chars().count() <= 64, "{row:?}");
        }
        let run = rows().filter(|row| !row.tests.is_empty()).count();
        assert!(run >= 40, "{run}");
    }
}
