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
        config: wanted_config(&TopicSpec::default()),
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
    plan.refusals.iter().map(Refusal::reason).collect()
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
fn a_topic_that_is_as_wanted_is_left_alone() {
    let plan = plan(&spec(|_| {}), Some(&facts(|_| {})), History::Known(&ours()));
    assert_eq!(plan, Plan::default());
}

#[test]
fn partitions_are_raised_and_never_lowered() {
    let more = plan(
        &spec(|t| t.partitions = 8),
        Some(&facts(|_| {})),
        History::Known(&ours()),
    );
    assert_eq!(more.steps, [Step::AddPartitions { from: 4, to: 8 }]);
    let fewer = plan(
        &spec(|t| t.partitions = 2),
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
        t.partitions = 2;
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
