//! Documents between releases that do not know each other's fields.

use super::*;

/// What the operator of the first release wrote for the processors of a resource that is as small
/// as possible.
const FIRST_RELEASE: &str = include_str!("first-release.yaml");

fn by_the_operator(mut pipeline: ClickstreamPipeline) -> ClickstreamPipeline {
    let annotations = &mut pipeline.metadata.annotations;
    annotations.insert(WRITTEN_BY.to_owned(), OPERATOR.to_owned());
    pipeline
}

/// `text` with a field more below the line that ends with `below`.
fn with_field(text: &str, below: &str, field: &str) -> String {
    let line = text.lines().find(|line| line.trim_end().ends_with(below));
    let line = line.unwrap_or_else(|| panic!("no {below} in\n{text}"));
    let indent = line.len() - line.trim_start_matches(['-', ' ']).len();
    let with = format!("{line}\n{}{field}", " ".repeat(indent));
    text.replacen(line, &with, 1)
}

#[test]
fn what_goes_without_saying_is_not_said() {
    assert_eq!(
        minimal().minimal(),
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata:
  name: demo
spec:
  kafka:
    bootstrapServers: 127.0.0.1:9092
  targets:
  - connection:
      secret:
        name: pg-app
"
    );
}

#[test]
fn what_is_left_is_the_same_document() {
    for pipeline in [minimal(), full()] {
        let text = pipeline.minimal();
        assert_eq!(ClickstreamPipeline::from_yaml(&text), Ok(pipeline));
    }
    // a part with one field of several set
    let mut pipeline = minimal();
    pipeline.spec.processor.flush.max_rows = 5;
    pipeline.spec.topics[0].adopt = true;
    let text = pipeline.minimal();
    assert_eq!(ClickstreamPipeline::from_yaml(&text), Ok(pipeline));
    assert!(
        text.contains("maxRows") && !text.contains("maxBytes"),
        "{text}"
    );
    assert!(
        text.contains("adopt") && !text.contains("management"),
        "{text}"
    );
}

#[test]
fn fields_of_a_later_release_are_left_out_of_the_operators_document_and_named() {
    let known = by_the_operator(full());
    let mut text = known.minimal();
    for (below, field) in [
        ("size: 5m", "slide: 1m"),
        ("maxRows: 1000", "maxAge: { of: [1, 2] }"),
        ("name: warehouse", "compression: Zstd"),
        ("kind: ClickstreamPipeline", "generation: 7"),
    ] {
        text = with_field(&text, below, field);
    }
    let (read, mut ignored) = ClickstreamPipeline::from_document(&text).unwrap();
    assert_eq!(read, known);
    ignored.sort();
    assert_eq!(
        ignored,
        [
            "generation",
            "spec.processor.flush.maxAge",
            "spec.targets[0].compression",
            "spec.window.slide",
        ]
    );
}

#[test]
fn a_persons_document_is_read_as_strictly_as_ever() {
    for text in [full().minimal(), minimal().minimal()] {
        let slip = with_field(&text, "kind: ClickstreamPipeline", "generation: 7");
        assert_eq!(
            ClickstreamPipeline::from_document(&slip).unwrap_err(),
            ClickstreamPipeline::from_yaml(&slip).unwrap_err()
        );
        let (read, ignored) = ClickstreamPipeline::from_document(&text).unwrap();
        assert_eq!(
            (Ok(read), ignored),
            (ClickstreamPipeline::from_yaml(&text), Vec::new())
        );
    }
}

#[test]
fn a_value_that_means_nothing_here_is_refused_whoever_wrote_it() {
    let text = by_the_operator(full()).minimal();
    let later = with_field(&text, "size: 5m", "slide: 1m");
    let later = later.replace("policy: Store", "policy: Sort");
    let error = ClickstreamPipeline::from_document(&later).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("spec.lateEvents.policy: unknown variant `Sort`"),
        "{error}"
    );
    let without = later.replace("bootstrapServers", "bootstrap");
    ClickstreamPipeline::from_document(&without).unwrap_err();
}

#[test]
fn what_the_first_releases_operator_wrote_is_read() {
    let (read, ignored) = ClickstreamPipeline::from_document(FIRST_RELEASE).unwrap();
    assert_eq!(ignored, Vec::<String>::new());
    assert_eq!(read.validate(), Ok(()));
    // what late events were to it, and what its defaults were
    let mut expected = minimal();
    expected.metadata.namespace = "shop".to_owned();
    expected.spec.late_events.policy = LatePolicy::Divert;
    // how many there are is the operator's business
    expected.spec.topics[0].partitions = read.spec.topics[0].partitions;
    assert_eq!(read, expected);
}
