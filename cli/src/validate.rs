//! `validate`: what the API server and the operator would say to a file, all at once.
//!
//! ```text
//! files ──> documents ──> schema, CEL   what the API server refuses
//!                    └──> validate()    what processors and operator refuse, with advice
//! ```

mod document;
mod files;
mod schema;

use std::{fmt::Write as _, io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use crate::paint::{self, BAD, Colours, FAINT, GOOD, cell};
use files::Document;

/// Standard input, as a file name.
const STANDARD_INPUT: &str = "-";

/// Checks files, prints what is wrong, and answers with 1 if anything is.
///
/// # Errors
/// A file cannot be read, or none holds a pipeline.
pub fn run(files: &[PathBuf], colours: Colours) -> anyhow::Result<ExitCode> {
    let (mut report, mut wrong, mut seen) = (String::new(), false, 0);
    for file in files {
        let (name, text) = read(file)?;
        for document in files::documents(&text) {
            match document {
                Ok(Document::Pipeline { text, content }) => {
                    seen += 1;
                    let problems = document::problems(&content, text.as_deref());
                    wrong |= !problems.is_empty();
                    let title = format!("{name}: {}", document::title(&content));
                    write_report(&mut report, &title, &problems);
                }
                Ok(Document::Other { title }) => {
                    let line = cell(format!("{name}: {title}: not looked at"), FAINT);
                    writeln!(report, "{}", line.painted())?;
                }
                Err(error) => {
                    (wrong, seen) = (true, seen + 1);
                    writeln!(report, "{}: {error}", cell(&name, BAD).painted())?;
                }
            }
        }
    }
    paint::print(colours, &report)?;
    anyhow::ensure!(seen > 0, "no ClickstreamPipeline is in there");
    Ok(if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn read(file: &PathBuf) -> anyhow::Result<(String, String)> {
    if file.as_os_str() == STANDARD_INPUT {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input")?;
        return Ok(("standard input".to_owned(), text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    Ok((name, text))
}

fn write_report(report: &mut String, title: &str, problems: &[document::Problem]) {
    let verdict = match problems.len() {
        0 => cell("valid", GOOD),
        1 => cell("1 problem", BAD),
        several => cell(format!("{several} problems"), BAD),
    };
    // writing into a String cannot fail
    let _ = writeln!(report, "{title}: {}", verdict.painted());
    for problem in problems {
        let place = problem.line.map(|line| format!(" (line {line})"));
        let _ = writeln!(
            report,
            "  {}: {}{}",
            cell(&problem.path, paint::HEADING).painted(),
            problem.message,
            place.unwrap_or_default()
        );
    }
}
