#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clickstream_pipeline::spec::Duration;

use super::*;

fn spec(change: impl FnOnce(&mut TopicSpec)) -> TopicSpec {
    let mut spec = TopicSpec::default();
    change(&mut spec);
    spec
}

fn facts(change: impl FnOnce(&mut TopicFacts)) -> TopicFacts {
    let mut facts = TopicFacts {
        id: Some("one".to_owned()),
        partitions: 4,
        replication_factor: 1,
        config: wanted_config(&TopicSpec::default(), true),
        readable: true,
    };
    change(&mut facts);
    facts
}

fn ours() -> KnownTopic {
    KnownTopic {
        id: Some("one".to_owned()),
        created: true,
        held: vec![TIMESTAMP_TYPE.to_owned()],
    }
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    let reasons = plan.refusals.iter().map(Refusal::reason);
    reasons.map(Reason::as_str).collect()
}

#[test]
fn a_missing_topic_is_created_with_log_append_time() {
    let plan = plan(&spec(|_| {}), None, History::NotTold);
    let [
        Step::Create {
            partitions,
            replication_factor,
            config,
        },
    ] = plan.steps.as_slice()
    else {
        panic!("{plan:?}");
    };
    assert_eq!((*partitions, *replication_factor), (4, None));
    assert_eq!(config[TIMESTAMP_TYPE], "LogAppendTime");
}

#[test]
fn a_topic_that_somebody_else_made_a_moment_before_is_not_taken_for_ours() {
    let wanted = plan(&spec(|_| {}), None, History::Unknown).steps.remove(0);
    assert!(wanted.made(&facts(|_| {})));
    let made = |change: fn(&mut TopicFacts)| wanted.made(&facts(change));
    assert!(!made(|f| f.partitions = 3));
    assert!(!made(|f| drop(f.config.remove(TIMESTAMP_TYPE))));
    // settings that may not be read say nothing
    assert!(made(|f| {
        f.config.clear();
        f.readable = false;
    }));
}

#[test]
fn a_topic_that_is_as_wanted_is_left_alone() {
    let plan = plan(&spec(|_| {}), Some(&facts(|_| {})), History::Known(&ours()));
    assert_eq!(plan, Plan::default());
}

#[test]
fn partitions_are_raised_and_never_lowered() {
    let more = plan(
        &spec(|t| t.partitions = Some(8)),
        Some(&facts(|_| {})),
        History::Known(&ours()),
    );
    assert_eq!(more.steps, [Step::AddPartitions { from: 4, to: 8 }]);
    let fewer = plan(
        &spec(|t| t.partitions = Some(2)),
        Some(&facts(|_| {})),
        History::Known(&ours()),
    );
    assert_eq!(
        (fewer.steps.len(), reasons(&fewer)),
        (0, vec!["FewerPartitions"])
    );
}

#[test]
fn a_refused_change_does_not_hold_back_the_others() {
    let wanted = spec(|t| {
        t.partitions = Some(2);
        t.replication_factor = Some(3);
        t.retention = Some(Duration::from_hours(24));
    });
    let plan = plan(&wanted, Some(&facts(|_| {})), History::Known(&ours()));
    assert_eq!(reasons(&plan), ["FewerPartitions", "ReplicationFactor"]);
    assert!(plan.refusals.iter().all(Refusal::leaves_topic_usable));
    assert_eq!(
        plan.steps,
        [Step::ChangeConfig(vec![ConfigChange {
            key: RETENTION_MS.to_owned(),
            value: Some("86400000".to_owned()),
        }])]
    );
}

#[test]
fn a_setting_that_leaves_the_spec_goes_back_to_the_default_and_those_of_others_stay() {
    let mut known = ours();
    known.held.push("max.message.bytes".to_owned());
    let found = facts(|f| {
        f.config
            .insert("max.message.bytes".to_owned(), "5".to_owned());
        f.config.insert("segment.ms".to_owned(), "7".to_owned());
    });
    let plan = plan(&spec(|_| {}), Some(&found), History::Known(&known));
    assert_eq!(
        plan.steps,
        [Step::ChangeConfig(vec![ConfigChange {
            key: "max.message.bytes".to_owned(),
            value: None,
        }])]
    );
}

#[test]
fn a_strangers_topic_is_refused_until_adopted() {
    let refused = plan(&spec(|_| {}), Some(&facts(|_| {})), History::Unknown);
    assert_eq!(reasons(&refused), ["TopicExists"]);
    assert!(!refused.refusals[0].leaves_topic_usable());
    let adopted = plan(
        &spec(|t| t.adopt = true),
        Some(&facts(|_| {})),
        History::Unknown,
    );
    assert_eq!(adopted, Plan::default());
}

#[test]
fn an_adopted_topic_keeps_what_the_spec_does_not_name() {
    let found = facts(|f| {
        f.partitions = 12;
        f.config = BTreeMap::from([(TIMESTAMP_TYPE.to_owned(), "CreateTime".to_owned())]);
    });
    let adopt = |change: fn(&mut TopicSpec), history| {
        let adopted = spec(|t| {
            t.adopt = true;
            change(t);
        });
        plan(&adopted, Some(&found), history)
    };
    let read_before = KnownTopic {
        created: false,
        held: vec!["segment.ms".to_owned()],
        ..ours()
    };
    assert_eq!(adopt(|_| {}, History::Unknown), Plan::default());
    assert_eq!(adopt(|_| {}, History::NotTold), Plan::default());
    let stays = adopt(
        |t| drop(t.config.insert("segment.ms".to_owned(), "7".to_owned())),
        History::Known(&read_before),
    );
    let set = |key: &str, value: &str| {
        vec![Step::ChangeConfig(vec![ConfigChange {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        }])]
    };
    assert_eq!(stays.steps, set("segment.ms", "7"));
    let named = |t: &mut TopicSpec| {
        t.config
            .insert(TIMESTAMP_TYPE.to_owned(), LOG_APPEND_TIME.to_owned());
    };
    let switched = set(TIMESTAMP_TYPE, LOG_APPEND_TIME);
    assert_eq!(adopt(named, History::Unknown).steps, switched);
    // by name, or by an operator that switched whatever it adopted: it never goes back
    let once = KnownTopic {
        created: false,
        ..ours()
    };
    assert_eq!(adopt(|_| {}, History::Known(&once)).steps, switched);
}

#[test]
fn partitions_that_are_not_named_stay_as_they_are() {
    let found = facts(|f| f.partitions = 12);
    let plan = plan(&spec(|_| {}), Some(&found), History::Known(&ours()));
    assert_eq!(plan, Plan::default());
}

#[test]
fn whose_a_topic_is_waits_for_what_the_schema_knows() {
    let plan = plan(&spec(|_| {}), Some(&facts(|_| {})), History::NotTold);
    assert!(plan.waits_for_history && plan.steps.is_empty() && plan.refusals.is_empty());
}

#[test]
fn a_topic_made_anew_is_reported_and_not_touched() {
    let found = facts(|f| {
        f.id = Some("two".to_owned());
        f.partitions = 1;
    });
    let plan = plan(
        &spec(|t| t.adopt = true),
        Some(&found),
        History::Known(&ours()),
    );
    assert_eq!(
        (plan.steps.len(), reasons(&plan)),
        (0, vec!["TopicReplaced"])
    );
}

#[test]
fn a_topic_deleted_behind_our_back_is_not_made_anew() {
    let plan = plan(&spec(|_| {}), None, History::Known(&ours()));
    assert_eq!(
        (plan.steps.len(), reasons(&plan)),
        (0, vec!["TopicMissing"])
    );
}

#[test]
fn an_external_topic_is_never_touched() {
    let external = |t: &mut TopicSpec| t.management = TopicManagement::External;
    let missing = plan(&spec(external), None, History::Unknown);
    assert_eq!(
        (missing.steps.len(), reasons(&missing)),
        (0, vec!["TopicMissing"])
    );
    let odd = facts(|f| {
        f.partitions = 1;
        f.config.clear();
    });
    assert_eq!(
        plan(&spec(external), Some(&odd), History::Unknown),
        Plan::default()
    );
}
