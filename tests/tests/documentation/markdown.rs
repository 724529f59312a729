//! The few things of Markdown that the tests look at: fenced blocks, headings and links.

use std::{fs, path::PathBuf};

use clickstream_testbed::workspace_root;

/// A page, by its path from the root.
pub struct Page {
    pub path: String,
    pub text: String,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// `docs/sql.md:12`, the line of the fence.
    pub at: String,
    /// What stands behind the fence.
    pub language: String,
    /// An HTML comment in the line before the fence, without its marks.
    pub remark: Option<String>,
    /// The lines, without the fence's own indentation.
    pub text: String,
}

/// The pages that tell people what to do: those in the root and in docs, runbooks included.
pub fn pages() -> Vec<Page> {
    let root = workspace_root();
    let folders = [root.clone(), root.join("docs"), root.join("docs/runbooks")];
    let mut files: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| Page {
            path: file.strip_prefix(&root).unwrap().display().to_string(),
            text: fs::read_to_string(file).unwrap(),
        })
        .collect()
}

/// One page.
pub fn page(path: &str) -> Page {
    Page {
        path: path.to_owned(),
        text: fs::read_to_string(workspace_root().join(path)).unwrap(),
    }
}

impl Page {
    /// The fenced blocks in their order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut before = "";
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else {
                before = line;
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let inside = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```");
            let text: Vec<&str> = inside
                .map(|line| line.get(indent..).unwrap_or_default())
                .collect();
            blocks.push(Block {
                at: format!("{}:{}", self.path, number + 1),
                language: language.to_owned(),
                remark: before
                    .trim()
                    .strip_prefix("<!--")
                    .and_then(|rest| rest.strip_suffix("-->"))
                    .map(|remark| remark.trim().to_owned()),
                text: text.join("\n"),
            });
            before = "";
        }
        blocks
    }

    /// The text without its fenced blocks.
    pub fn prose(&self) -> String {
        let mut inside = false;
        self.text
            .lines()
            .filter(|line| {
                let fence = line.trim_start().starts_with("```");
                inside ^= fence;
                !inside && !fence
            })
            .collect::<Vec<_>>()
            .join("\n")
    }
}
