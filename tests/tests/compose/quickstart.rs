//! The commands of the quickstart with Compose, in their order.

use anyhow::Context as _;
use clickstream_testbed::workspace_root;

const HEADING: &str = "\n## With Docker Compose\n";

/// Every line of the section's `sh` blocks; a line that ends with `\` goes on in the next one.
pub fn commands() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace_root().join("docs/quickstart.md"))?;
    let (_, section) = text
        .split_once(HEADING)
        .context("docs/quickstart.md has no section on Compose")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("\n```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block));
    let lines = blocks.flat_map(|block| {
        let joined = block.replace("\\\n", " ");
        joined.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    Ok(lines
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| {
            line.split("    # ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .filter(|line| !line.is_empty())
        .collect())
}
