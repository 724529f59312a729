//! Counting what cargo test reports.

use std::ops::AddAssign;

/// Tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Green.
    pub passed: u64,
    /// Red.
    pub failed: u64,
    /// Not run.
    pub ignored: u64,
}

impl Counts {
    /// Reads a closing line, `test result: ok. 9 passed; 0 failed; 1 ignored; …`; any other line is
    /// `None`.
    pub fn of_closing_line(line: &str) -> Option<Self> {
        let (_, parts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in parts.split("; ") {
            match part.split_once(' ') {
                Some((number, "passed")) => counts.passed = number.parse().ok()?,
                Some((number, "failed")) => counts.failed = number.parse().ok()?,
                Some((number, "ignored")) => counts.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn closing_lines_of_cargo_test_are_read() {
        let green = "test result: ok. 9 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 5.02s";
        let red = "test result: FAILED. 7 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 10.00s";
        let mut sum = Counts::default();
        for line in [green, red] {
            sum += Counts::of_closing_line(line).unwrap_or_default();
        }
        assert_eq!(
            sum,
            Counts {
                passed: 16,
                failed: 4,
                ignored: 1
            }
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "running 9 tests",
            "test a ... ok",
            "test result: about to be told",
            "     Running tests/admin.rs",
        ] {
            assert_eq!(Counts::of_closing_line(line), None, "{line:?}");
        }
    }
}
