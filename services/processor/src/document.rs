//! The pipeline's document as a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clickstream_pipeline::spec::ClickstreamPipeline;

/// A document that was read and is valid.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it stands.
    pub path: PathBuf,
    /// The file as it was read.
    pub text: String,
    /// What it says.
    pub pipeline: ClickstreamPipeline,
}

impl Document {
    /// Reads a file, and lists everything that is wrong with it.
    ///
    /// # Errors
    /// The file cannot be read, or is no valid document.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--pipeline {}", path.display()))?;
        Self::parse(path, text)
    }

    /// The document that a file with this text is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: String) -> anyhow::Result<Self> {
        let (pipeline, ignored) = ClickstreamPipeline::from_document(&text)
            .with_context(|| path.display().to_string())?;
        if !ignored.is_empty() {
            tracing::warn!(
                fields = ignored.join(", "),
                "the operator is of a later release: what it says in fields unknown here is ignored"
            );
        }
        if let Err(problems) = pipeline.validate() {
            let lines: Vec<_> = problems
                .iter()
                .map(|problem| format!("  {}: {}", problem.path, problem.message))
                .collect();
            bail!(
                "{}: {} problem(s)\n{}",
                path.display(),
                problems.len(),
                lines.join("\n")
            );
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            pipeline,
        })
    }
}
