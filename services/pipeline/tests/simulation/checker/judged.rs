//! Every record of a partition as the rules at its offset have it: what it holds, whether that is
//! an event, and whether it is late. Nothing here looks at tables.

use std::sync::Arc;

use clickstream_pipeline::{
    decode::RejectReason,
    offset::TopicPartition,
    spec::{LatePolicy, OptionalFields, SemanticSpec},
};

use crate::{
    log::{Entry, Truth},
    state::State,
};

/// A partition's records as they are judged by rules that change at some offsets.
#[derive(Default)]
pub(super) struct ByRules {
    /// From which offset on which rules are in force.
    pub(super) changes: Vec<(i64, Arc<SemanticSpec>)>,
    /// For every entry.
    pub(super) entries: Vec<JudgedEntry>,
}

/// A record as the rules at its offset have it.
pub(super) struct JudgedEntry {
    /// What it holds: itself, the elements of its batch, or nothing.
    pub(super) held: Vec<Judged>,
    pub(super) t: Option<i64>,
    /// The last 31 event times.
    pub(super) times: Vec<i64>,
}

pub(super) struct Judged {
    /// Which element of the record's batch; none where the record is read as a whole.
    pub(super) element: Option<usize>,
    /// Why it is no event by these rules.
    pub(super) rejected: Option<RejectReason>,
    pub(super) late: bool,
    pub(super) policy: LatePolicy,
    /// Whether a text that says nothing is left out.
    pub(super) cleans: bool,
    /// By which pages hits are counted.
    pub(super) pages: ByPage,
    /// Whether bots are counted apart.
    pub(super) marks: bool,
}

/// What the rules make of a URL.
#[derive(Copy, Clone)]
pub(super) enum ByPage {
    /// It is the page.
    Url,
    /// It is the page as well, and its host the site; no more pages than these have rows of their
    /// own.
    Site(Option<u32>),
    /// All URLs of the shop are one page of it; with the same bound.
    Template(Option<u32>),
}

/// From which offset on which rules are in force.
pub(super) fn changes_of(state: &State, tp: TopicPartition) -> Vec<(i64, Arc<SemanticSpec>)> {
    let anchors = state.anchors.range((tp, i64::MIN)..=(tp, i64::MAX));
    let mut changes: Vec<(i64, Arc<SemanticSpec>)> = Vec::new();
    for (&(_, at), anchor) in anchors {
        let known = changes.last().map(|(_, rules)| rules);
        if known != Some(&anchor.rules) {
            changes.push((at, Arc::clone(&anchor.rules)));
        }
    }
    changes
}

/// A record, or an element of its batch.
pub(super) struct PartOf<'a> {
    pub(super) truth: &'a Truth,
    pub(super) value: &'a [u8],
    pub(super) odd: bool,
}

pub(super) fn part_of(entry: &Entry, element: Option<usize>) -> PartOf<'_> {
    match (&entry.truth, element) {
        (Truth::Batch(parts), Some(at)) => PartOf {
            truth: &parts[at].truth,
            value: &parts[at].value,
            odd: parts[at].odd,
        },
        _ => PartOf {
            truth: &entry.truth,
            value: entry.value.as_deref().unwrap_or_default(),
            odd: entry.odd,
        },
    }
}

/// `T` by the book: sort the last 31, the missing ones first, take the 16th, never go back.
pub(super) fn judge(entries: &[Entry], changes: &[(i64, Arc<SemanticSpec>)]) -> Vec<JudgedEntry> {
    let mut all = Vec::new();
    let mut t: Option<i64> = None;
    let mut judged = Vec::new();
    let start = SemanticSpec::default();
    for entry in entries {
        let spec = changes.iter().rev().find(|(at, _)| *at <= entry.offset);
        let spec = spec.map_or(&start, |(_, rules)| &**rules);
        let mut held = Vec::new();
        for element in elements_of(entry, spec) {
            let mut late = false;
            let rejected = rejected(entry, element, spec);
            if let (Truth::Event(facts), None) = (part_of(entry, element).truth, rejected) {
                let end = (facts.ts.div_euclid(spec.window_micros) + 1) * spec.window_micros;
                late =
                    t.is_some_and(|t| end + spec.allowed_lateness_micros <= t - spec.delay_micros);
                all.push(facts.ts);
                let mut last: Vec<Option<i64>> =
                    all.iter().rev().take(31).copied().map(Some).collect();
                last.resize(31, None);
                last.sort_unstable();
                t = t.max(last[15]);
            }
            held.push(Judged {
                element,
                rejected,
                late,
                policy: spec.late_policy,
                pages: match &spec.events.derived.page {
                    None => ByPage::Url,
                    Some(rules) if rules.templates.is_empty() => ByPage::Site(rules.max_per_window),
                    Some(rules) => ByPage::Template(rules.max_per_window),
                },
                marks: spec.events.derived.bots.is_some(),
                cleans: spec.events.optional_fields == OptionalFields::Clean,
            });
        }
        judged.push(JudgedEntry {
            held,
            t,
            times: all[all.len().saturating_sub(31)..].to_vec(),
        });
    }
    judged
}

/// What a record holds by these rules: the elements of its batch, or itself.
fn elements_of(entry: &Entry, spec: &SemanticSpec) -> Vec<Option<usize>> {
    let is_read = entry
        .value
        .as_ref()
        .is_some_and(|value| value.len() <= spec.max_event_bytes);
    match &entry.truth {
        Truth::Tombstone => Vec::new(),
        Truth::Batch(parts) if is_read && spec.events.mapping.batch.is_some() => {
            (0..parts.len()).map(Some).collect()
        }
        _ => vec![None],
    }
}

/// Why a record, or an element of its batch, is no event by these rules.
fn rejected(entry: &Entry, element: Option<usize>, spec: &SemanticSpec) -> Option<RejectReason> {
    let len = entry.value.as_ref().map_or(0, Vec::len);
    let part = part_of(entry, element);
    match part.truth {
        Truth::Tombstone => None,
        _ if len > spec.max_event_bytes => Some(RejectReason::TooLarge),
        Truth::Rejected(reason) => Some(*reason),
        // an object without any field of an event
        Truth::Batch(_) => Some(RejectReason::MissingField),
        Truth::Event(facts) if facts.ts > facts.received + spec.max_future_skew_micros => {
            Some(RejectReason::TimestampInFuture)
        }
        // fields are looked at in a fixed order, the optional ones last
        Truth::Event(_) => {
            let is_refused = spec.events.optional_fields == OptionalFields::Reject;
            (part.odd && is_refused).then_some(RejectReason::InvalidField)
        }
    }
}
