//! What the Collector's debug exporter prints, read back.

use std::collections::BTreeMap;

/// A span as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectedSpan {
    /// Trace id, in hex.
    pub trace: String,
    /// Id of the parent, in hex; empty for the first of a trace.
    pub parent: String,
    /// Id, in hex.
    pub id: String,
    /// Name.
    pub name: String,
    /// `Internal`, `Producer`, `Consumer`, …
    pub kind: String,
    /// `Unset`, `Ok` or `Error`.
    pub status: String,
    /// Attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Trace id and span id of each link.
    pub links: Vec<(String, String)>,
    /// Attributes of the process that it comes from.
    pub resource: BTreeMap<String, String>,
}

impl CollectedSpan {
    /// `service.name` of the process that it comes from.
    #[must_use]
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// An attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// Which list the lines with an arrow belong to.
enum List {
    Resource,
    Attributes,
    Event,
    Link,
}

/// The spans of a log. Of one that is only half written, the rest comes with a later reading.
pub fn spans(log: &str) -> Vec<CollectedSpan> {
    let mut all: Vec<CollectedSpan> = Vec::new();
    let mut resource = BTreeMap::new();
    let mut list = List::Resource;
    for line in log.lines() {
        if line == "Resource attributes:" {
            resource = BTreeMap::new();
            list = List::Resource;
        } else if line.starts_with("Span #") {
            all.push(CollectedSpan {
                resource: resource.clone(),
                ..CollectedSpan::default()
            });
            list = List::Attributes;
        } else if line == "Attributes:" {
            list = List::Attributes;
        } else if line.starts_with("SpanEvent #") {
            list = List::Event;
        } else if line.starts_with("SpanLink #") {
            list = List::Link;
        } else if let Some(entry) = line.strip_prefix("     -> ") {
            let Some((name, value)) = entry.split_once(": ") else {
                continue;
            };
            match (&list, all.last_mut()) {
                (List::Resource, _) => drop(resource.insert(name.to_owned(), plain(value))),
                (List::Attributes, Some(span)) => {
                    span.attributes.insert(name.to_owned(), plain(value));
                }
                (List::Link, Some(span)) => match name {
                    "Trace ID" => span.links.push((value.to_owned(), String::new())),
                    "ID" => {
                        if let Some((_, id)) = span.links.last_mut() {
                            value.clone_into(id);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        } else if let (Some((name, value)), Some(span)) = (
            line.strip_prefix("    ").and_then(|it| it.split_once(':')),
            all.last_mut(),
        ) {
            let value = value.trim().to_owned();
            match name.trim_end() {
                "Trace ID" => span.trace = value,
                "Parent ID" => span.parent = value,
                "ID" => span.id = value,
                "Name" => span.name = value,
                "Kind" => span.kind = value,
                "Status code" => span.status = value,
                _ => {}
            }
        }
    }
    all
}

/// `Str(x)` and `Int(7)` without what they are.
fn plain(value: &str) -> String {
    let inner = value
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-22T21:01:06.428Z\tinfo\tResourceSpans #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(x)
ScopeSpans #0
Span #0
    Trace ID       : 4bf92f3577b34da6a3ce929d0e0e4736
    Parent ID      : 00f067aa0ba902b8
    ID             : 00f067aa0ba902b7
    Name           : flush x
    Kind           : Consumer
    Status code    : Error
Attributes:
     -> a.b: Int(7)
     -> c: Str(hey: (x))
Events:
SpanEvent #0
     -> Name: ev
     -> Attributes::
          -> k: Str(v)
Links:
SpanLink #0
     -> Trace ID: 4bf92f3577b34da6a3ce929d0e0e4737
     -> ID: 00f067aa0ba902b9
     -> TraceState: 
Span #1
    Trace ID       : 4bf92f3577b34da6a3ce929d0e0e4736
    Parent ID      : 
    ID             : 00f067aa0ba902b8
    Name           : root
";

    #[test]
    fn spans_are_read_back_with_attributes_links_and_resource() {
        let spans = spans(LOG);
        assert_eq!(spans.len(), 2);
        let first = &spans[0];
        assert_eq!((first.name.as_str(), first.service()), ("flush x", "x"));
        assert_eq!(first.parent, spans[1].id);
        assert_eq!(first.attribute("a.b"), Some("7"));
        assert_eq!(first.attribute("c"), Some("hey: (x)"));
        assert_eq!(first.attribute("Name"), None);
        assert_eq!(
            first.links,
            [(
                "4bf92f3577b34da6a3ce929d0e0e4737".to_owned(),
                "00f067aa0ba902b9".to_owned()
            )]
        );
        assert_eq!((spans[1].parent.as_str(), spans[1].service()), ("", "x"));
    }
}
