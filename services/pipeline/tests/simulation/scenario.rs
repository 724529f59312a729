//! What one seed looks like: its spec, its log's shape, its processors and how often what goes
//! wrong.

use clickstream_pipeline::{
    bots::BotList,
    decode::mapping::MappingRules,
    derived::DerivedRules,
    page::{Fragment, PageRules, TrailingSlash},
    spec::{EventRules, LatePolicy, OptionalFields, SemanticSpec},
};

use crate::{dice::Dice, sabotage::Sabotage};

/// Everything that a seed decides before the first step.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed itself.
    pub seed: u64,
    /// The rules of the pipeline as it begins.
    pub spec: SemanticSpec,
    /// The rules that it is changed to, one after the other.
    pub changes: Vec<SemanticSpec>,
    /// End of the time that counts as reported final, fixed for the run.
    pub final_until: Option<i64>,
    /// How many partitions the topic has in the end.
    pub partitions: usize,
    /// How many records, control records apart.
    pub records: usize,
    /// Whether all times are whole seconds, so that bounds are met exactly.
    pub whole_seconds: bool,
    /// Whether ids are resent to other partitions as well.
    pub across_partitions: bool,
    /// Whether some records hold several events.
    pub batches: bool,
    /// How many processors run at a time.
    pub processors: usize,
    /// Rows at which intake waits for a flush.
    pub flush_rows: usize,
    /// In how many of 1,000 idle steps a processor flushes what it has.
    pub eagerness: usize,
    /// Whether a crash of the database may lose the newest commits (`durability: Replayable`).
    pub replayable: bool,
    /// Whether processors add their hits to the same rows (no lane was free).
    pub shared_lane: bool,
    /// Whether the late ledger has the constraint of the events.
    pub ledger_refuses: bool,
    /// Whether a claim can end the previous owner's backend.
    pub terminates: bool,
    /// Whether rows after a claim count as new although others may have stored them: the filter is
    /// often wrong.
    pub overconfident: bool,
    /// How many steps of a transaction in 1,000 go wrong.
    pub step_faults: usize,
    /// How many commits in 1,000 end without an answer.
    pub commit_faults: usize,
    /// How many steps of the world in 10,000 are a fault (crash, rebalance, crash of the database).
    pub world_faults: usize,
    /// How many faults there are at most, so that every run ends.
    pub fault_budget: usize,
    /// A deliberate bug of the simulated surroundings, to see the checker object.
    pub sabotage: Option<Sabotage>,
}

/// The page of events where the rules have a template.
pub const PAGE: &str = "https://shop.example/p/:page";

/// Rules by which all URLs that the database takes are one page, or each is a page of its own, on
/// one site.
fn pages(dice: &mut Dice) -> PageRules {
    let template = "/p/:page".parse().expect("a template");
    PageRules {
        trailing_slash: TrailingSlash::Remove,
        fragment: Fragment::Remove,
        query: Vec::new(),
        templates: dice.chance(500).then_some(template).into_iter().collect(),
        max_per_window: dice.pick(&[None, Some(1), Some(2), Some(3)]),
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut dice = Dice::new(seed, 0);
        let second = 1_000_000;
        // one in twelve is large enough for COPY, for a filter that forgets and for long halvings
        let large = dice.chance(80);
        let records = if large {
            dice.between(300, 900)
        } else {
            dice.between(30, 200)
        };
        let calm = dice.chance(150);
        let window_micros = dice.pick(&[1, 7, 60, 3_600]) * second;
        // of its own, so that seeds without batches are what they were
        let mut batch = Dice::new(seed, 9);
        let batches = batch.chance(500);
        let mut rules = || SemanticSpec {
            window_micros,
            delay_micros: dice.pick(&[0, 1, 10]) * second,
            max_future_skew_micros: dice.pick(&[60, 300, 50 * 86_400]) * second,
            allowed_lateness_micros: dice.pick(&[0, 1, 30, 600]) * second,
            late_policy: dice.pick(&[
                LatePolicy::Merge,
                LatePolicy::Divert,
                LatePolicy::Store,
                LatePolicy::Drop,
            ]),
            max_event_bytes: dice.pick(&[700, 700, 1_000])
                * if batches { batch.pick(&[1, 2, 4]) } else { 1 },
            events: EventRules {
                mapping: MappingRules {
                    // not by all rules: what is a batch by some is a broken record by others
                    batch: (batches && batch.chance(800)).then(|| "/batch".to_owned()),
                    ..MappingRules::default()
                },
                optional_fields: dice.pick(&[OptionalFields::Clean, OptionalFields::Reject]),
                derived: DerivedRules {
                    page: dice.chance(500).then(|| pages(&mut dice)),
                    acquisition: dice.chance(200),
                    bots: dice.chance(300).then_some(BotList::NEWEST),
                },
                ..EventRules::default()
            },
        };
        let spec = rules();
        let changes = (0..5).map(|_| rules()).collect::<Vec<_>>();
        let changes = changes[..dice.pick(&[0, 0, 1, 2, 3, 5])].to_vec();
        Self {
            seed,
            spec,
            changes,
            final_until: dice
                .chance(500)
                .then(|| crate::log::BASE + dice.between(-100, 400) * second),
            partitions: dice.pick(&[1, 2, 2, 3, 3, 4, 5]),
            records: usize::try_from(records).expect("positive"),
            whole_seconds: dice.chance(400),
            across_partitions: dice.chance(500),
            batches,
            processors: dice.pick(&[1, 2, 2, 3, 4]),
            flush_rows: if large {
                dice.pick(&[20, 100, 1_000, 1_000])
            } else {
                dice.pick(&[1, 3, 8, 20, 70, 200])
            },
            eagerness: if large {
                dice.pick(&[2, 10, 60])
            } else {
                dice.pick(&[10, 60, 300])
            },
            replayable: dice.chance(400),
            shared_lane: dice.chance(300),
            ledger_refuses: dice.chance(400),
            terminates: dice.chance(700),
            overconfident: dice.chance(600),
            step_faults: if calm { 0 } else { dice.pick(&[0, 5, 20, 60]) },
            commit_faults: if calm { 0 } else { dice.pick(&[0, 60, 250]) },
            world_faults: if calm { 0 } else { dice.pick(&[10, 50, 150]) },
            fault_budget: if calm { 0 } else { dice.below(40) },
            sabotage,
        }
    }
}
