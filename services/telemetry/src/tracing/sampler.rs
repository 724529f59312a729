//! Which traces are recorded, decided before a span is made: a producer of 10,000 records a second
//! cannot afford one for each just to hear that it is not wanted.

use std::cell::Cell;

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, SamplingResult, ShouldSample,
};

use super::settings::SamplerChoice;

/// The sampler of a process.
#[derive(Clone, Debug)]
pub struct TraceSampler {
    parent_based: bool,
    messages: Sampler,
    operations: Sampler,
}

impl TraceSampler {
    /// The sampler that was chosen.
    pub fn new(choice: SamplerChoice) -> Self {
        let (parent_based, messages, operations) = match choice {
            SamplerChoice::Default(ratio) => (true, ratio, 1.0),
            SamplerChoice::Named {
                parent_based,
                ratio,
            } => (parent_based, ratio, ratio),
        };
        Self {
            parent_based,
            messages: Sampler::TraceIdRatioBased(messages),
            operations: Sampler::TraceIdRatioBased(operations),
        }
    }

    /// Whether a trace with this id that begins with a message would be recorded.
    pub fn takes_message(&self, trace: TraceId) -> bool {
        let asked = self
            .messages
            .should_sample(None, trace, "", &SpanKind::Producer, &[], &[]);
        asked.decision == SamplingDecision::RecordAndSample
    }
}

impl ShouldSample for TraceSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let known = parent
            .map(|parent| parent.span().span_context().clone())
            .filter(|span| span.is_valid());
        if self.parent_based
            && let Some(span) = known
        {
            let decision = if span.is_sampled() {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            };
            return SamplingResult {
                decision,
                attributes: Vec::new(),
                trace_state: span.trace_state().clone(),
            };
        }
        let sampler = match kind {
            SpanKind::Producer | SpanKind::Consumer => &self.messages,
            SpanKind::Client | SpanKind::Server | SpanKind::Internal => &self.operations,
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

thread_local! {
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Random ids, except that a trace which was chosen by its id gets that one.
#[derive(Clone, Debug, Default)]
pub struct Ids(RandomIdGenerator);

impl Ids {
    /// A new random id.
    pub fn draw(&self) -> TraceId {
        self.0.new_trace_id()
    }

    /// The next trace that `begin` starts on this thread has this id.
    pub fn with_next<T>(trace: TraceId, begin: impl FnOnce() -> T) -> T {
        NEXT.set(Some(trace));
        let begun = begin();
        NEXT.set(None);
        begun
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> opentelemetry::trace::SpanId {
        self.0.new_span_id()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    fn remote(flags: TraceFlags) -> Context {
        Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(1),
            SpanId::from(2),
            flags,
            true,
            TraceState::default(),
        ))
    }

    fn takes(sampler: &TraceSampler, parent: Option<&Context>, kind: &SpanKind) -> bool {
        // the low half of the id decides: this one is the last to be taken
        let last = TraceId::from(u128::from(u64::MAX));
        let asked = sampler.should_sample(parent, last, "x", kind, &[], &[]);
        asked.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn by_default_messages_are_sampled_and_rare_operations_are_all_recorded() {
        let sampler = TraceSampler::new(SamplerChoice::Default(0.5));
        assert!(!takes(&sampler, None, &SpanKind::Producer));
        assert!(!takes(&sampler, None, &SpanKind::Consumer));
        assert!(takes(&sampler, None, &SpanKind::Internal));
    }

    #[test]
    fn what_another_process_decided_holds_if_the_sampler_is_parent_based() {
        let sampler = TraceSampler::new(SamplerChoice::Default(0.5));
        let (sampled, not) = (remote(TraceFlags::SAMPLED), remote(TraceFlags::default()));
        assert!(takes(&sampler, Some(&sampled), &SpanKind::Consumer));
        assert!(!takes(&sampler, Some(&not), &SpanKind::Internal));
        let alone = TraceSampler::new(SamplerChoice::Named {
            parent_based: false,
            ratio: 0.0,
        });
        assert!(!takes(&alone, Some(&sampled), &SpanKind::Consumer));
    }

    #[test]
    fn about_as_many_messages_are_taken_as_the_ratio_says() {
        let sampler = TraceSampler::new(SamplerChoice::Default(0.1));
        let ids = Ids::default();
        let taken = (0..20_000)
            .filter(|_| sampler.takes_message(ids.draw()))
            .count();
        // 2,000 expected, standard deviation 42
        assert!((1_700..2_300).contains(&taken), "{taken}");
    }

    #[test]
    fn a_chosen_id_is_given_to_one_trace_only() {
        let ids = Ids::default();
        let chosen = TraceId::from(7);
        let (first, second) = Ids::with_next(chosen, || (ids.new_trace_id(), ids.new_trace_id()));
        assert_eq!(first, chosen);
        assert_ne!(second, chosen);
        Ids::with_next(chosen, || {});
        assert_ne!(ids.new_trace_id(), chosen);
    }
}
