//! What it costs to find the fields of an event by pointers, and to keep its properties: clicks of
//! one generator as events of our own form, as nested ones, and as nested ones with properties.

use clickstream_pipeline::spec::{ClickstreamPipeline, PropertiesPolicy};
use clickstream_producer::generator::IdForm;
use serde_json::{Value, json};

use super::backlog::{Backlog, Contents, Resends};
use super::drain::{self, DrainRun};
use super::figure::{Aim, Figure, Run};
use super::stand::Stand;
use xtask::args::BenchArgs;

/// Where the eight fields stand in a nested event.
const POINTERS: [(&str, &str); 8] = [
    ("event_id", "/message/id"),
    ("user_id", "/context/user/id"),
    ("event_ts", "/message/sent/at"),
    ("url", "/context/page/url"),
    ("referrer", "/context/page/referrer"),
    ("ip", "/context/client/ip"),
    ("session_id", "/context/user/session"),
    ("user_agent", "/context/client/agent"),
];

/// Records a second of nested events against those of our own form.
const NESTED: Aim = Aim::at_least(0.85, 0.95);
/// The same with five properties kept.
const WITH_PROPERTIES: Aim = Aim::at_least(0.65, 0.75);

/// What a form's document says besides the quickstart's.
type Change = fn(&mut ClickstreamPipeline);

/// One round: our own form, nested, and nested with properties.
type Round = [DrainRun; 3];

/// Drains the three forms in turn.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let plain = Backlog::fill(stand, contents).await?;
    let nested = Backlog::fill_as(stand, contents, |payload| nested(payload, false)).await?;
    let with_properties =
        Backlog::fill_as(stand, contents, |payload| self::nested(payload, true)).await?;
    let forms: [(&str, &Backlog, Change); 3] = [
        ("own form", &plain, |_| {}),
        ("nested", &nested, maps),
        ("nested, properties", &with_properties, keeps_properties),
    ];
    // uncounted: the first gigabytes of WAL go into new files
    drained(stand, "warm-up, not counted", &plain, |_| {}).await?;
    let mut rounds = Vec::new();
    for round in 1..=args.runs {
        let mut runs = Vec::new();
        for (name, backlog, change) in forms {
            runs.push(drained(stand, &format!("{name} {round}"), backlog, change).await?);
        }
        rounds.push(Round::try_from(runs).map_err(|_| anyhow::anyhow!("not three forms"))?);
    }
    Ok(figures(&rounds))
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let rate = |name: &str, form: usize| {
        Figure::of(name, "records/s", rounds, None, |round| {
            round[form].run(round[form].rate())
        })
    };
    let ratio = |name: &str, form: usize, aim| {
        Figure::of(name, "", rounds, Some(aim), |round| Run {
            value: round[form].rate() / round[0].rate(),
            foreign_cpu: round[form].foreign_cpu.max(round[0].foreign_cpu),
        })
    };
    vec![
        rate("our own form", 0),
        rate("8 nested fields", 1),
        rate("8 nested fields, 5 properties kept", 2),
        ratio("nested ÷ own form", 1, NESTED),
        ratio("nested with properties ÷ own form", 2, WITH_PROPERTIES),
    ]
}

async fn drained(
    stand: &Stand,
    name: &str,
    backlog: &Backlog,
    change: Change,
) -> anyhow::Result<DrainRun> {
    let trial = stand.trial_with(backlog.log.topic(), change).await?;
    let (run, trial, processor) = drain::measured(trial, backlog).await?;
    drain::note(name, &run);
    trial.end(Some(processor)).await?;
    Ok(run)
}

fn maps(pipeline: &mut ClickstreamPipeline) {
    let pointers = POINTERS.map(|(field, pointer)| (field.to_owned(), vec![pointer.to_owned()]));
    pipeline.spec.events.fields = pointers.into();
    // the built-in producer writes events of our own form
    pipeline.spec.producer.enabled = false;
}

fn keeps_properties(pipeline: &mut ClickstreamPipeline) {
    maps(pipeline);
    pipeline.spec.events.properties = PropertiesPolicy::Store;
}

/// The same event with its fields where [`POINTERS`] say; what is no event stays as it is.
fn nested(payload: Vec<u8>, with_properties: bool) -> Vec<u8> {
    let Ok(Value::Object(mut event)) = serde_json::from_slice(&payload) else {
        return payload;
    };
    let fields = POINTERS.map(|(field, pointer)| (event.remove(field), pointer));
    // what is left makes an event that is refused: too long, for instance
    let mut nested = Value::Object(event);
    for (value, pointer) in fields {
        if let Some(value) = value {
            *place(&mut nested, pointer) = value;
        }
    }
    if with_properties {
        nested["properties"] = json!({
            "plan": "premium", "price": 12.5, "items": 3, "member": true, "campaign": "late summer"
        });
    }
    nested.to_string().into_bytes()
}

/// The value at a pointer, made of objects as far as there is none yet.
fn place<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer
        .split('/')
        .skip(1)
        .fold(value, |value, key| &mut value[key])
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::event::EventTime;
    use clickstream_pipeline::spec::SemanticSpec;
    use clickstream_producer::generator::{Generator, GeneratorOptions};

    use super::*;

    #[test]
    fn nested_events_are_read_as_the_same_clicks() -> anyhow::Result<()> {
        let base = EventTime::from_micros(1_772_366_400_000_000);
        let plain = SemanticSpec::default().decoder();
        let mut mapped = SemanticSpec::default();
        let fields = POINTERS.map(|(field, pointer)| (field.to_owned(), vec![pointer.to_owned()]));
        mapped.events.mapping.fields = fields.into();
        let mapped = mapped.decoder();
        let (mut events, mut refused) = (0, 0);
        for record in Generator::new(GeneratorOptions::default(), base)?.take(1_000) {
            let nested = nested(record.payload.clone(), true);
            let received_at = EventTime::from_micros(base.micros() + 3_600_000_000);
            match (
                plain.decode(&record.payload, received_at),
                mapped.decode(&nested, received_at),
            ) {
                (Ok(plain), Ok(mapped)) => {
                    events += 1;
                    assert_eq!(plain, mapped);
                }
                (Err(_), Err(_)) => refused += 1,
                (plain, mapped) => panic!("{plain:?} and {mapped:?}"),
            }
        }
        assert!(events > 900 && refused > 0, "{events} and {refused}");
        Ok(())
    }
}
