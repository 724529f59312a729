//! The documents of a file, each as text with the line it begins on.

use serde_json::Value;

use clickstream_pipeline::spec::KIND;

/// A document of a file.
pub enum Document {
    /// A pipeline.
    Pipeline {
        /// As it stands in the file, behind as many empty lines as there are before it; `None` for
        /// a part of a list.
        text: Option<String>,
        /// What it says.
        content: Value,
    },
    /// Something else.
    Other {
        /// What it is called.
        title: String,
    },
}

/// All documents that are not empty; `Err` for one that is no YAML.
pub fn documents(text: &str) -> Vec<Result<Document, String>> {
    let mut found = Vec::new();
    for text in split(text) {
        match serde_yaml::from_str::<Value>(&text) {
            Ok(Value::Null) => {}
            Ok(list) if list["kind"] == "List" || list["kind"] == format!("{KIND}List") => {
                let items = list["items"].as_array().cloned().unwrap_or_default();
                found.extend(items.into_iter().map(|item| Ok(sorted(item, None))));
            }
            Ok(document) => found.push(Ok(sorted(document, Some(text)))),
            Err(error) => found.push(Err(format!("no YAML: {error}"))),
        }
    }
    found
}

fn sorted(content: Value, text: Option<String>) -> Document {
    let kind = content["kind"].as_str().unwrap_or("no kind");
    if kind == KIND {
        return Document::Pipeline { text, content };
    }
    let name = content["metadata"]["name"].as_str().unwrap_or_default();
    Document::Other {
        title: format!("{kind} {name}").trim_end().to_owned(),
    }
}

/// `---` at the beginning of a line always begins a document, also inside of block texts.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (index, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push("\n".repeat(index + 1));
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_lines_and_empty_ones_do_not_count() {
        let text = "# nothing\n---\nkind: Secret\nmetadata: { name: a }\n---\n\nkind: ClickstreamPipeline\n---\n";
        let found = documents(text);
        assert_eq!(found.len(), 2);
        assert!(matches!(&found[0], Ok(Document::Other { title }) if title == "Secret a"));
        assert!(
            matches!(&found[1], Ok(Document::Pipeline { text: Some(text), .. }) if text == "\n\n\n\n\n\nkind: ClickstreamPipeline\n")
        );
    }

    #[test]
    fn what_is_no_yaml_is_told_by_its_line_in_the_file() {
        let found = documents("kind: Secret\n---\na: b\n\tc: d\n");
        assert!(
            matches!(&found[1], Err(error) if error.contains("line 4")),
            "{:?}",
            found[1].as_ref().err()
        );
    }

    #[test]
    fn a_list_is_what_is_in_it() {
        let found = documents("kind: List\nitems:\n- kind: ClickstreamPipeline\n- kind: Secret\n");
        assert_eq!(found.len(), 2);
    }
}
