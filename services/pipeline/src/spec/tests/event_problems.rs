//! What may be wrong with the rules for events, and what a person is told.

use std::collections::BTreeMap;

use super::problems::{problems, text};
use super::*;
use crate::decode::columns::PromotedColumn;

fn listed(name: &str, pointers: &[&str]) -> BTreeMap<String, Vec<String>> {
    let pointers = pointers.iter().map(|pointer| text(pointer)).collect();
    BTreeMap::from([(text(name), pointers)])
}

fn message(change: impl FnOnce(&mut EventsSpec)) -> String {
    let mut pipeline = full();
    change(&mut pipeline.spec.events);
    let problems = pipeline.validate().unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn a_pointer_that_is_none_is_told_how_to_be_one() {
    let of = |pointer: &str| message(|events| events.fields = listed("url", &["/a", pointer]));
    assert_eq!(
        of("context.page.url"),
        "spec.events.fields.url[1]: a JSON pointer begins with `/`: write /context/page/url"
    );
    assert_eq!(
        of("/a~b"),
        "spec.events.fields.url[1]: write ~0 for a `~` in a key, and ~1 for a `/`"
    );
}

#[test]
fn a_control_character_is_refused_since_rules_are_kept_as_jsonb() {
    let page =
        |change: fn(&mut PageSpec)| message(|events| change(events.page.get_or_insert_default()));
    for (said, place) in [
        (
            message(|events| events.fields = listed("url", &["/a", "/\0*\0url"])),
            "fields.url[1]",
        ),
        (
            message(|events| events.constants.extend([(text("user_id"), text("a\0"))])),
            "constants.user_id",
        ),
        (
            message(|events| events.envelope = Some(text("/a\0"))),
            "envelope",
        ),
        (
            page(|page| page.query_keys = vec![text("a\0")]),
            "page.queryKeys[0]",
        ),
        (
            page(|page| page.templates = vec!["/a\u{1}/:id".parse().unwrap()]),
            "page.templates[0]",
        ),
    ] {
        let wanted = format!("spec.events.{place}: leave control characters out");
        assert_eq!(said, wanted);
    }
}

#[test]
fn fields_are_those_of_an_event_and_have_one_to_eight_pointers() {
    let of = |name, pointers: &[&str]| {
        let fields = listed(name, pointers);
        message(|events| events.fields = fields)
    };
    assert!(of("uri", &["/a"]).starts_with(
        "spec.events.fields.uri: no field of an event: use one of event_id, user_id, "
    ));
    assert_eq!(
        of("url", &[]),
        "spec.events.fields.url: name at least one pointer, such as /context/page/url, or a text \
         for it under constants"
    );
    assert_eq!(
        of("url", &["/a"; 9]),
        "spec.events.fields.url: name at most 8 pointers"
    );
    problems(|p| p.spec.events.fields = listed("url", &["/a"; 8]), &[]);
    problems(|p| p.spec.events.fields = listed("referrer", &[]), &[]);
}

#[test]
fn constants_are_texts_of_fields_that_events_may_share() {
    for (name, length, is_taken) in [
        ("user_id", 1, true),
        ("user_id", 128, true),
        ("user_id", 129, false),
        ("user_id", 0, false),
        ("url", 1024, true),
        ("url", 1025, false),
        ("session_id", 129, false),
        ("event_name", 128, true),
        ("event_name", 129, false),
        ("site", 255, true),
        ("site", 256, false),
        ("event_id", 1, false),
        ("event_ts", 1, false),
        ("uri", 1, false),
    ] {
        let path = format!("spec.events.constants.{name}");
        let paths = if is_taken {
            vec![]
        } else {
            vec![path.as_str()]
        };
        problems(
            |p| {
                let events = &mut p.spec.events;
                events.constants.insert(text(name), "x".repeat(length));
            },
            &paths,
        );
    }
}

#[test]
fn a_constant_that_no_event_could_have_is_refused_with_the_rule_of_its_field() {
    let of = |name: &str, constant: &str| {
        message(|events| drop(events.constants.insert(text(name), text(constant))))
    };
    assert_eq!(
        of("ip", "office"),
        "spec.events.constants.ip: no event could have it: not an IPv4 or IPv6 address"
    );
    assert_eq!(
        of("user_id", &"x".repeat(129)),
        "spec.events.constants.user_id: no event could have it: longer than 128 characters"
    );
    assert_eq!(
        of("user_agent", &"é".repeat(513)),
        "spec.events.constants.user_agent: no event could have it: longer than 1024 bytes"
    );
    for address in ["192.0.2.1", "2001:db8::1"] {
        problems(
            |p| drop(p.spec.events.constants.insert(text("ip"), text(address))),
            &[],
        );
    }
}

#[test]
fn an_envelope_is_a_pointer_from_the_record() {
    for envelope in ["data", "", "$/data", "/~"] {
        problems(
            |p| p.spec.events.envelope = Some(text(envelope)),
            &["spec.events.envelope"],
        );
    }
    problems(
        |p| p.spec.events.envelope = Some(text("/payload/after")),
        &[],
    );
}

#[test]
fn the_producer_does_not_run_beside_rules_by_which_its_events_cannot_be_read() {
    const AT: &[&str] = &["spec.producer.enabled"];
    let with = |change: fn(&mut EventsSpec), paths: &[&str]| {
        let change = |p: &mut ClickstreamPipeline, enabled| {
            p.spec.producer.enabled = enabled;
            p.spec.events = EventsSpec::default();
            change(&mut p.spec.events);
        };
        problems(|p| change(p, true), paths);
        problems(|p| change(p, false), &[]);
    };
    with(|_| (), &[]);
    with(|events| events.preset = Some(Preset::Segment), AT);
    with(|events| events.envelope = Some(text("/payload")), AT);
    for (name, own) in [
        ("event_id", "/event_id"),
        ("user_id", "/user_id"),
        ("event_ts", "$/event_ts"),
        ("url", "/url"),
    ] {
        let fields = |pointers: &[&str], paths: &[&str]| {
            let fields = listed(name, pointers);
            problems(
                |p| {
                    p.spec.producer.enabled = true;
                    p.spec.events = EventsSpec {
                        fields,
                        ..EventsSpec::default()
                    };
                },
                paths,
            );
        };
        fields(&["/else"], AT);
        fields(&["/else", own], &[]);
    }
    // no event needs these, and neither needs a pointer that a constant or a rule for ids stands
    // for
    with(|events| events.fields = listed("ip", &["/none"]), &[]);
    with(
        |events| {
            events.fields = listed("user_id", &["/else"]);
            events.constants.insert(text("user_id"), text("somebody"));
        },
        &[],
    );
    with(
        |events| {
            events.fields = listed("event_id", &["/else"]);
            events.id = EventIds::FromFields;
        },
        &[],
    );
    let mut pipeline = full();
    pipeline.spec.producer.enabled = true;
    assert_eq!(
        pipeline.validate().unwrap_err()[0].to_string(),
        "spec.producer.enabled: its events have this project's own form, which cannot be read with \
         events.preset: set it to false, or leave that out"
    );
}

#[test]
fn a_batch_is_a_pointer_from_the_envelope_or_the_record_itself() {
    for batch in ["batch", "$/batch", "/~", "/a\u{1}"] {
        problems(
            |p| p.spec.events.batch = Some(text(batch)),
            &["spec.events.batch"],
        );
    }
    for batch in ["", "/batch", "/payload/events"] {
        problems(|p| p.spec.events.batch = Some(text(batch)), &[]);
    }
    let rules = full().semantic().events.mapping;
    assert_eq!(rules.batch.as_deref(), Some("/batch"));
}

#[test]
fn what_is_written_out_goes_over_the_preset() {
    let pipeline = full();
    let rules = pipeline.semantic().events.mapping;
    let pointers = |name: &str| {
        rules.fields[name]
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(pointers("url"), ["/context/page/url", "$/url"]);
    assert_eq!(pointers("referrer"), [""; 0]);
    assert_eq!(pointers("user_id"), ["/userId", "/anonymousId"]);
    assert_eq!(rules.constants["referrer"], "unknown");
    assert_eq!(rules.envelope.as_deref(), Some("/data"));
    assert!(rules.strip_registry_prefix);
}

#[test]
fn every_preset_is_made_of_pointers_that_a_spec_may_have() {
    for preset in Preset::ALL {
        let rules = preset.rules();
        for (name, pointers) in &rules.fields {
            if !pointers.is_empty() && crate::decode::Field::from_key(name).is_some() {
                problems(
                    |p| p.spec.events.fields = BTreeMap::from([(name.clone(), pointers.clone())]),
                    &[],
                );
            }
        }
        problems(|p| p.spec.events.preset = Some(preset), &[]);
        let events = EventsSpec {
            preset: Some(preset),
            ..EventsSpec::default()
        };
        let mut followed = events.rules().mapping.fields.into_keys();
        assert!(followed.all(|name| crate::decode::Field::from_key(&name).is_some()));
    }
    let named = |name: &str| serde_json::from_value::<Preset>(name.into()).is_ok();
    assert!(named("GA4") && named("CloudEvents") && !named("Ga4") && !named("segment"));
}

/// The page about data of people's own.
const PAGE: &str = include_str!("../../../../../docs/your-data.md");

/// The documents of pipelines on it, whole ones and parts of a spec.
fn documents() -> Vec<String> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap().to_owned());
    let head = blocks
        .clone()
        .find(|block| block.starts_with("apiVersion"))
        .unwrap();
    let of_all = |block: String| {
        if block.starts_with("apiVersion") {
            return block;
        }
        let lines = head.lines().filter(|line| !line.starts_with("  events:"));
        let lines: Vec<&str> = lines.collect();
        format!("{}\n{block}", lines.join("\n"))
    };
    blocks.map(of_all).collect()
}

#[test]
fn the_documents_of_the_page_about_data_are_valid() {
    let documents = documents();
    assert!(documents.len() >= 3);
    for document in documents {
        let pipeline = ClickstreamPipeline::from_yaml(&document).expect(&document);
        assert_eq!(pipeline.validate(), Ok(()), "{document}");
        assert_ne!(pipeline.spec.events, EventsSpec::default(), "{document}");
    }
}

#[test]
fn the_page_about_data_says_where_each_preset_looks() {
    let row = |preset: &str| {
        PAGE.lines()
            .find(|line| line.starts_with(&format!("| `{preset}` |")))
    };
    for preset in Preset::ALL {
        let name = serde_json::to_value(preset).unwrap();
        let name = name.as_str().unwrap();
        let row = row(name).expect(name);
        for (field, pointers) in &preset.rules().fields {
            if crate::decode::Field::from_key(field).is_none() {
                continue;
            }
            let listed: Vec<String> = pointers.iter().map(|p| format!("`{p}`")).collect();
            assert!(row.contains(&listed.join(" ")), "{name}: {field}");
        }
    }
}

#[test]
fn limits_of_properties_stay_within_bounds() {
    type Change = fn(&mut PropertyLimitsSpec, u16);
    let bytes: Change = |limits, value| limits.max_bytes = value.to_string().parse().unwrap();
    let keys: Change = |limits, value| limits.max_keys = value;
    let depth: Change = |limits, value| limits.max_depth = value as u8;
    for (field, change, least, most) in [
        ("maxBytes", bytes, 64, 32_768),
        ("maxKeys", keys, 1, 1024),
        ("maxDepth", depth, 1, 16),
    ] {
        let path = format!("spec.events.propertyLimits.{field}");
        for (value, is_taken) in [
            (least - 1, false),
            (least, true),
            (most, true),
            (most + 1, false),
        ] {
            let paths = if is_taken {
                vec![]
            } else {
                vec![path.as_str()]
            };
            problems(
                |p| change(&mut p.spec.events.property_limits, value),
                &paths,
            );
        }
    }
}

#[test]
fn keys_of_a_page_are_those_that_a_query_can_have_and_templates_are_paths() {
    let with = |change: fn(&mut PageSpec)| {
        move |p: &mut ClickstreamPipeline| change(p.spec.events.page.insert(PageSpec::default()))
    };
    problems(with(|_| ()), &[]);
    problems(
        with(|page| page.query_keys = vec![text("a"), text("a[]")]),
        &[],
    );
    problems(
        with(|page| page.query_keys = ["", "a=b", "a&b", "a#", "a b", "a"].map(text).to_vec()),
        &[
            "spec.events.page.queryKeys[0]",
            "spec.events.page.queryKeys[1]",
            "spec.events.page.queryKeys[2]",
            "spec.events.page.queryKeys[3]",
            "spec.events.page.queryKeys[4]",
        ],
    );
    problems(
        with(|page| page.query_keys = vec!["a".repeat(128), "a".repeat(129), "a".repeat(128)]),
        &[
            "spec.events.page.queryKeys[1]",
            "spec.events.page.queryKeys[2]",
        ],
    );
    let keys = |most: usize| (0..most).map(|key| key.to_string()).collect::<Vec<_>>();
    problems(
        move |p| p.spec.events.page.insert(PageSpec::default()).query_keys = keys(64),
        &[],
    );
    problems(
        move |p| p.spec.events.page.insert(PageSpec::default()).query_keys = keys(65),
        &["spec.events.page.queryKeys"],
    );
    problems(
        with(|page| page.templates = vec!["/a/:b".parse().unwrap(); 101]),
        &["spec.events.page.templates"],
    );
    for (most, problem) in [(0, true), (1, false), (10_000, false), (10_001, true)] {
        let expected: &[&str] = match problem {
            true => &["spec.events.page.maxPerWindow"],
            false => &[],
        };
        problems(
            move |p| {
                p.spec
                    .events
                    .page
                    .insert(PageSpec::default())
                    .max_per_window = Some(most)
            },
            expected,
        );
    }
    let broken = FULL.replace("/product/:id", "/product/:");
    let error = ClickstreamPipeline::from_yaml(&broken).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`/product/:` is no template of a path"),
        "{error}"
    );
}

#[test]
fn columns_have_names_that_are_free_and_pointers() {
    let of = |changed: fn(&mut PromotedColumn)| {
        message(|events| {
            let mut column = events.columns[0].clone();
            column.name = text("tariff");
            changed(&mut column);
            events.columns.push(column);
        })
    };
    const NAME: &str = "spec.events.columns[1].name: write 1 to 63 lower-case letters, digits and \
        underscores, not beginning with a digit";
    const TAKEN: &str = "spec.events.columns[1].name: the tables have a column of that name already, \
        or may get one: choose another name";
    let named = |said: &str, name: &str| format!("{said} (in `{name}`)");
    assert_eq!(of(|column| column.name.clear()), NAME);
    assert_eq!(of(|column| column.name = "x".repeat(64)), NAME);
    let plan = of(|column| column.name = text("Plan"));
    assert_eq!(plan, named(NAME, "Plan"));
    let sharp = of(|column| column.name = text("Wei\u{df}\"x"));
    assert_eq!(sharp, named(NAME, "Wei\u{df}\\\"x"));
    let first = of(|column| column.name = text("1st"));
    assert_eq!(first, named(NAME, "1st"));
    let url = of(|column| column.name = text("url"));
    assert_eq!(url, named(TAKEN, "url"));
    let xmin = of(|column| column.name = text("xmin"));
    assert_eq!(xmin, named(TAKEN, "xmin"));
    let ours = of(|column| column.name = text("clickstream_x"));
    assert_eq!(ours, named(TAKEN, "clickstream_x"));
    assert_eq!(
        of(|column| column.name = text("plan")),
        "spec.events.columns[1].name: it is named twice (in `plan`)"
    );
    assert_eq!(
        of(|column| column.pointer = text("properties.plan")),
        "spec.events.columns[1].pointer: a JSON pointer begins with `/`: write /properties/plan \
         (in `tariff`)"
    );
    assert_eq!(
        of(|column| column.pointer = text("/a\u{1}")),
        "spec.events.columns[1].pointer: leave control characters out (in `tariff`)"
    );
    for (name, pointer) in [
        ("select", "$/meta/plan"),
        ("_a", "/items/0/[key=plan]"),
        (&*"x".repeat(63), "/"),
    ] {
        problems(
            |p| {
                let column = &mut p.spec.events.columns[0];
                (column.name, column.pointer) = (text(name), text(pointer));
            },
            &[],
        );
    }
    let many = |count: usize| {
        move |p: &mut ClickstreamPipeline| {
            let mut column = p.spec.events.columns[0].clone();
            p.spec.events.columns.clear();
            for number in 0..count {
                column.name = format!("c{number}");
                p.spec.events.columns.push(column.clone());
            }
        }
    };
    problems(many(32), &[]);
    problems(many(33), &["spec.events.columns"]);
}
