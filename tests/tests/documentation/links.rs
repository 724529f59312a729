//! Links between pages.

use std::collections::BTreeSet;

use clickstream_testbed::workspace_root;
use regex::Regex;

use crate::markdown::{Page, page, pages};

#[test]
fn every_link_between_pages_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for page in pages() {
        for found in link.captures_iter(&page.prose()) {
            let target = &found[1];
            if !target.contains("://") && !is_there(&page, target) {
                broken.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "links to nowhere: {broken:#?}");
}

fn is_there(from: &Page, target: &str) -> bool {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let root = workspace_root();
    let path = if file.is_empty() {
        root.join(&from.path)
    } else {
        root.join(&from.path).parent().unwrap().join(file)
    };
    if anchor.is_empty() || !path.exists() {
        return path.exists();
    }
    let path = path.canonicalize().unwrap();
    let text = page(
        &path
            .strip_prefix(root.canonicalize().unwrap())
            .unwrap()
            .display()
            .to_string(),
    );
    anchors(&text).contains(anchor)
}

/// The headings' anchors, as GitHub makes them: lower case, spaces to dashes, without punctuation.
fn anchors(page: &Page) -> BTreeSet<String> {
    let prose = page.prose();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}
