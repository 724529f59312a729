//! A seeded stream of click events: visitors who come from somewhere, walk through a shop and leave.
//!
//! Nothing here reads a clock or does I/O: records follow from [`GeneratorOptions`] and a base time, and the
//! same arguments give the same bytes. Each record says when it is due, as an offset from the start of the run.
//!
//! ```
//! use clickstream_pipeline::event::EventTime;
//! use clickstream_producer::generator::{Generator, GeneratorOptions};
//!
//! let base = EventTime::from_micros(1_767_225_600_000_000);
//! let generator = Generator::new(GeneratorOptions { seed: 7, ..GeneratorOptions::default() }, base)?;
//! assert_eq!(generator.take(100).count(), 100);
//! # Ok::<(), clickstream_producer::generator::InvalidOptions>(())
//! ```

mod event;
mod malformed;
mod random;
mod site;
mod visitors;
mod visits;

use std::time::Duration;

use clickstream_pipeline::event::EventTime;

use self::event::{Draft, write_event};
use self::malformed::Fault;
pub use self::malformed::Malformed;
use self::random::{Chance, Random, scatter};
use self::visitors::Visitor;
use self::visits::{Click, Visits};
use crate::record::{Record, RecordKind};

/// How many recent events can be sent again.
const RESENDABLE: usize = 4_096;

/// What to generate. Fractions are of all records, so `rate` is the rate of records whatever they are.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorOptions {
    /// Same seed, options and base time: same bytes.
    pub seed: u64,
    /// How many different visitors there are, at least 1.
    pub users: u64,
    /// Records a second, at least 1.
    pub rate: u64,
    /// Fraction of records that repeat an earlier one byte for byte.
    pub duplicates: f64,
    /// Fraction *of the duplicates* that go out under another user's key, so mostly to another partition.
    pub cross_partition_duplicates: f64,
    /// Fraction of records dated [`GeneratorOptions::late_by`] or up to twice as much before they are sent.
    pub late: f64,
    /// How far late events lie in the past, at least.
    pub late_by: Duration,
    /// Fraction of records that no decoder accepts, evenly over [`Malformed::ALL`].
    pub malformed: f64,
    /// The longest time between a click and its record, apart from late events.
    pub disorder: Duration,
    /// The form of event ids.
    pub ids: IdForm,
    /// The limit that [`Malformed::TooLarge`] records exceed, in bytes.
    pub max_event_bytes: usize,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            seed: 42,
            users: 10_000,
            rate: 83,
            duplicates: 0.02,
            cross_partition_duplicates: 0.0,
            late: 0.001,
            late_by: Duration::from_secs(15 * 60),
            malformed: 0.01,
            disorder: Duration::from_secs(5),
            ids: IdForm::V7,
            max_event_bytes: 65_536,
        }
    }
}

/// The form of the event ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum IdForm {
    /// UUIDv7: the event's time, then random bits; kind to indexes.
    #[default]
    V7,
    /// UUIDv4: random bits only.
    V4,
}

/// Options that describe no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// `users` is 0.
    #[error("users: must be at least 1")]
    NoUsers,
    /// `rate` is 0.
    #[error("rate: must be at least 1 record a second")]
    NoRate,
    /// A fraction is negative, above 1 or not a number.
    #[error("{0}: must be a fraction between 0 and 1")]
    Fraction(&'static str),
    /// The kinds of records take more than the whole.
    #[error("duplicates, late and malformed together: must not exceed 1")]
    FractionSum,
}

/// An endless iterator over records, in the order in which they are due.
#[derive(Clone, Debug)]
pub struct Generator {
    options: GeneratorOptions,
    base: EventTime,
    random: Random,
    visits: Visits,
    duplicate: Chance,
    malformed: Chance,
    late: Chance,
    elsewhere: Chance,
    index: u64,
    recent: Vec<Sent>,
    oldest: usize,
}

/// An event that may be sent again.
#[derive(Clone, Debug)]
struct Sent {
    visitor: u64,
    key: String,
    payload: Vec<u8>,
}

impl Generator {
    /// A stream whose first record is due at `base`.
    ///
    /// # Errors
    /// [`InvalidOptions`] names the first option that is out of bounds.
    pub fn new(options: GeneratorOptions, base: EventTime) -> Result<Self, InvalidOptions> {
        validate(&options)?;
        Ok(Self {
            base,
            // without the base time, a second run with random ids would resend the first one's
            random: Random::new(options.seed ^ scatter(base.micros().cast_unsigned())),
            visits: Visits::new(options.users, options.rate),
            duplicate: Chance::new(options.duplicates),
            malformed: conditional(options.malformed, options.duplicates),
            late: conditional(options.late, options.duplicates + options.malformed),
            elsewhere: Chance::new(options.cross_partition_duplicates),
            index: 0,
            recent: Vec::new(),
            oldest: 0,
            options,
        })
    }

    fn resend(&mut self, due: Duration) -> Option<Record> {
        if self.recent.is_empty() {
            return None;
        }
        let sent = &self.recent[self.random.index(self.recent.len())];
        let payload = sent.payload.clone();
        if self.options.users > 1 && self.random.chance(self.elsewhere) {
            let other =
                (sent.visitor + 1 + self.random.below(self.options.users - 1)) % self.options.users;
            let key = Visitor::new(self.options.seed, other).key;
            return Some(Record {
                key,
                payload,
                due,
                kind: RecordKind::DuplicateElsewhere,
            });
        }
        Some(Record {
            key: sent.key.clone(),
            payload,
            due,
            kind: RecordKind::Duplicate,
        })
    }

    fn spoiled(&mut self, due: Duration) -> Record {
        let how = *self.random.pick(&Malformed::ALL);
        let draft = self.draft(due, Duration::ZERO);
        let payload = match how.fault() {
            Fault::Field(field, token) => write_event(&draft, Some((field, token.as_deref()))),
            Fault::Bytes => how.spoil(write_event(&draft, None), self.options.max_event_bytes),
        };
        Record {
            key: draft.visitor.key,
            payload,
            due,
            kind: RecordKind::Malformed(how),
        }
    }

    fn fresh(&mut self, due: Duration) -> Record {
        let late = self.random.chance(self.late);
        let age = if late {
            self.options.late_by + self.up_to(self.options.late_by)
        } else {
            Duration::ZERO
        };
        let draft = self.draft(due, age);
        let payload = write_event(&draft, None);
        let sent = Sent {
            visitor: draft.click.visitor,
            key: draft.visitor.key,
            payload,
        };
        let kind = if late {
            RecordKind::Late
        } else {
            RecordKind::Event
        };
        let record = Record {
            key: sent.key.clone(),
            payload: sent.payload.clone(),
            due,
            kind,
        };
        self.remember(sent);
        record
    }

    fn draft(&mut self, due: Duration, age: Duration) -> Draft {
        let click = self.visits.next(&mut self.random);
        // most clicks arrive quickly: the cube of a uniform draw
        let draw = self.random.below(1 << 20);
        let share = (((draw * draw) >> 20) * draw) >> 20;
        let delay = (self.options.disorder.as_micros() * u128::from(share)) >> 20;
        let micros = i128::from(self.base.micros()) + due.as_micros() as i128
            - delay as i128
            - age.as_micros() as i128;
        // clients count in milliseconds; beyond the calendar the decoder has the last word
        let millis = i64::try_from(micros.div_euclid(1_000)).unwrap_or(0);
        Draft::new(
            self.options.seed,
            self.options.ids,
            click,
            millis,
            &mut self.random,
        )
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(
            self.random
                .below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    fn remember(&mut self, sent: Sent) {
        if self.duplicate == Chance::new(0.0) {
            return;
        }
        if self.recent.len() < RESENDABLE {
            self.recent.push(sent);
        } else {
            self.recent[self.oldest] = sent;
            self.oldest = (self.oldest + 1) % RESENDABLE;
        }
    }
}

impl Iterator for Generator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let nanos = u128::from(self.index) * 1_000_000_000 / u128::from(self.options.rate);
        let due = Duration::from_nanos(u64::try_from(nanos).ok()?);
        self.index = self.index.checked_add(1)?;
        if self.random.chance(self.duplicate)
            && let Some(record) = self.resend(due)
        {
            return Some(record);
        }
        if self.random.chance(self.malformed) {
            return Some(self.spoiled(due));
        }
        Some(self.fresh(due))
    }
}

/// The chance of a kind that is drawn only when the kinds before it, `taken` of the whole, were not.
fn conditional(fraction: f64, taken: f64) -> Chance {
    if taken >= 1.0 {
        Chance::new(0.0)
    } else {
        Chance::new(fraction / (1.0 - taken))
    }
}

fn validate(options: &GeneratorOptions) -> Result<(), InvalidOptions> {
    if options.users == 0 {
        return Err(InvalidOptions::NoUsers);
    }
    if options.rate == 0 {
        return Err(InvalidOptions::NoRate);
    }
    let fractions = [
        ("duplicates", options.duplicates),
        (
            "cross-partition duplicates",
            options.cross_partition_duplicates,
        ),
        ("late", options.late),
        ("malformed", options.malformed),
    ];
    if let Some((name, _)) = fractions
        .into_iter()
        .find(|(_, fraction)| !(0.0..=1.0).contains(fraction))
    {
        return Err(InvalidOptions::Fraction(name));
    }
    // a little room, since 0.1 + 0.2 + 0.7 is not quite 1
    if options.duplicates + options.late + options.malformed > 1.0 + 1e-9 {
        return Err(InvalidOptions::FractionSum);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
