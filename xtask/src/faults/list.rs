//! The rows as text: for a terminal, and for docs/faults.md.

use std::fmt::Write as _;

use super::rows::Row;

/// Every row with what must hold and what does it.
pub fn text(rows: &[&Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let quick = if row.quick { "  (under 10 s)" } else { "" };
        // infallible: writing to a String
        let _ = writeln!(text, "{:<4} {}{quick}", row.name(), row.what);
        let _ = writeln!(text, "     holds:   {}", row.holds);
        for test in row.tests {
            let _ = writeln!(text, "     test:    {} {}", test.target, test.name);
        }
        if !row.without.is_empty() {
            let word = if row.tests.is_empty() {
                "not run:"
            } else {
                "without:"
            };
            let _ = writeln!(text, "     {word} {}", row.without);
        }
    }
    let run = rows.iter().filter(|row| !row.tests.is_empty()).count();
    let _ = writeln!(
        text,
        "{} rows, of which {run} run on one machine",
        rows.len()
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::fs;

    use clickstream_tools::workspace_root;

    use super::*;
    use crate::faults::rows;

    /// What stands around the table in the page.
    const MARKS: [&str; 2] = ["<!-- rows: begin -->\n", "<!-- rows: end -->\n"];

    fn table() -> String {
        let mut text =
            String::from("| Row | What happens | What must hold | Tests |\n|---|---|---|---|\n");
        for row in rows() {
            let mut tests: Vec<String> = row
                .tests
                .iter()
                .map(|test| format!("`{}` {}", test.target, test.name))
                .collect();
            if !row.without.is_empty() {
                let word = if tests.is_empty() {
                    "Not run"
                } else {
                    "Without"
                };
                tests.push(format!("{word}: {}", row.without));
            }
            let name = row.name();
            writeln!(
                text,
                "| {name} | {} | {} | {} |",
                row.what,
                row.holds,
                tests.join("<br>")
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn the_page_about_faults_has_the_rows_of_the_code() {
        let path = workspace_root().join("docs/faults.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(MARKS[0]).unwrap();
        let (held, after) = rest.split_once(MARKS[1]).unwrap();
        if std::env::var_os("CLICKSTREAM_UPDATE").is_some() {
            let [begin, end] = MARKS;
            fs::write(&path, format!("{before}{begin}{}{end}{after}", table())).unwrap();
        } else {
            assert!(
                held == table(),
                "write it with CLICKSTREAM_UPDATE=1 cargo test -p xtask"
            );
        }
    }

    #[test]
    fn the_list_names_every_row_and_how_many_run() {
        let all: Vec<&Row> = rows().collect();
        let text = text(&all);
        assert!(
            text.starts_with("F1   ") && text.contains("\nF52  "),
            "{text}"
        );
        assert!(
            text.lines()
                .last()
                .unwrap()
                .starts_with("52 rows, of which ")
        );
    }
}
