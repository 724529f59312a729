//! From the command line and the resource to what the parts take.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clickstream_pipeline::spec::{ClickstreamPipeline, Problem, SecretError, SpecError};
use clickstream_telemetry::secrets::SecretFiles;

use crate::args::{EventArgs, KafkaArgs};
use crate::generator::GeneratorOptions;
use crate::kafka::SenderOptions;

/// The topic when nothing names one; the default of the resource as well.
const DEFAULT_TOPIC: &str = "clickstream";

/// Late events lie this much further back than the first instant at which they are late.
const LATE_MARGIN: Duration = Duration::from_secs(60);

/// The resource or its Secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is no pipeline.
    #[error("{}: {source}", path.display())]
    NoPipeline {
        /// The file as it was named.
        path: PathBuf,
        /// The field that does not fit.
        source: SpecError,
    },
    /// The pipeline breaks rules.
    #[error("{}: {}", path.display(), list(problems))]
    Invalid {
        /// The file as it was named.
        path: PathBuf,
        /// All rules it breaks.
        problems: Vec<Problem>,
    },
    /// A Secret is missing or incomplete.
    #[error("{0}; Secrets are files below --secrets-dir, as DIR/<secret>/<key>")]
    Secret(#[from] SecretError),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads and checks the resource, if one is given.
///
/// # Errors
/// [`SettingsError`] names the file and the fields.
pub fn pipeline(path: Option<&Path>) -> Result<Option<ClickstreamPipeline>, SettingsError> {
    let Some(path) = path else { return Ok(None) };
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SettingsError::Unreadable { path, source }),
    };
    let pipeline = match ClickstreamPipeline::from_document(&text) {
        Ok((pipeline, ignored)) => {
            if !ignored.is_empty() {
                tracing::warn!(
                    fields = ignored.join(", "),
                    "the operator is of a later release: what it says in fields unknown here is ignored"
                );
            }
            pipeline
        }
        Err(source) => return Err(SettingsError::NoPipeline { path, source }),
    };
    match pipeline.validate() {
        Ok(()) => Ok(Some(pipeline)),
        Err(problems) => Err(SettingsError::Invalid { path, problems }),
    }
}

/// How to reach Kafka: the command line before the resource.
///
/// # Errors
/// A Secret that the resource names cannot be read.
pub fn sender(
    args: &KafkaArgs,
    pipeline: Option<&ClickstreamPipeline>,
) -> Result<SenderOptions, SettingsError> {
    let secrets = SecretFiles::new(args.secrets_dir.clone());
    let mut properties = match pipeline {
        Some(pipeline) => pipeline.spec.kafka.client_properties(&secrets)?,
        None => Vec::new(),
    };
    if let Some(servers) = &args.bootstrap_servers {
        properties.retain(|(name, _)| name != "bootstrap.servers");
        properties.push(("bootstrap.servers".to_owned(), servers.clone()));
    }
    let of_pipeline = || Some(pipeline?.spec.topics.first()?.name.clone());
    Ok(SenderOptions {
        properties,
        topic: args
            .topic
            .clone()
            .or_else(of_pipeline)
            .unwrap_or_else(|| DEFAULT_TOPIC.to_owned()),
        delivery_timeout: args.delivery_timeout.to_std(),
        connect_timeout: args.connect_timeout.to_std(),
        queue_bytes: args.queue_memory.get(),
    })
}

/// What to generate: the command line before the resource before the defaults.
#[must_use]
pub fn generator(args: &EventArgs, pipeline: Option<&ClickstreamPipeline>) -> GeneratorOptions {
    let mut options = GeneratorOptions::default();
    if let Some(pipeline) = pipeline {
        let producer = &pipeline.spec.producer;
        options.rate = u64::from(producer.rate);
        options.users = producer.users;
        options.seed = producer.seed;
        options.disorder = producer.disorder.to_std();
        options.duplicates = producer.duplicates;
        options.late = producer.late;
        options.malformed = producer.malformed;
        options.max_event_bytes = pipeline.spec.processor.max_event_bytes.as_len();
    }
    options.rate = args.rate.unwrap_or(options.rate);
    options.seed = args.seed.unwrap_or(options.seed);
    options.users = args.users.unwrap_or(options.users);
    options.duplicates = args.duplicates.unwrap_or(options.duplicates);
    options.late = args.late.unwrap_or(options.late);
    options.malformed = args.malformed.unwrap_or(options.malformed);
    options.disorder = args
        .disorder
        .map_or(options.disorder, |disorder| disorder.to_std());
    options.cross_partition_duplicates = args.cross_partition_duplicates;
    options.ids = args.ids;
    if let Some(pipeline) = pipeline {
        // late is what lies behind the end of its window, the allowed lateness and the watermark's own distance
        let semantic = pipeline.semantic();
        let bound =
            semantic.window_micros + semantic.allowed_lateness_micros + semantic.delay_micros;
        options.late_by =
            Duration::from_micros(bound.unsigned_abs()) + options.disorder + LATE_MARGIN;
    }
    options
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::time::Duration;

    use clap::Parser;
    use clickstream_pipeline::spec::ClickstreamPipeline;

    use super::{generator, sender};
    use crate::args::{Cli, Command, GenerateArgs};

    const YAML: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: demo }
spec:
  kafka: { bootstrapServers: broker.example:9092 }
  topics: [{ name: clicks }, { name: more }]
  targets: [{ connection: { secret: { name: pg } } }]
  watermark: { delay: 20s }
  producer: { rate: 500, seed: 9, malformed: 0.5, disorder: 2s }
";

    fn args(more: &[&str]) -> GenerateArgs {
        let words = ["clickstream-producer", "generate"].iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Generate(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_resource_says_what_the_command_line_does_not() {
        let pipeline = ClickstreamPipeline::from_yaml(YAML).unwrap();
        let args = args(&["--pipeline", "x.yaml", "--seed", "10"]);
        let options = generator(&args.events, Some(&pipeline));
        assert_eq!(
            (options.rate, options.seed, options.malformed),
            (500, 10, 0.5)
        );
        // 1m window, 10m allowed lateness, 20s delay, 2s disorder, 1m margin
        assert_eq!(options.late_by, Duration::from_secs(60 + 600 + 20 + 2 + 60));
        let sender = sender(&args.kafka, Some(&pipeline)).unwrap();
        assert_eq!(sender.topic, "clicks");
        assert!(sender.properties.contains(&(
            "bootstrap.servers".to_owned(),
            "broker.example:9092".to_owned()
        )));
    }

    #[test]
    fn brokers_of_the_command_line_replace_those_of_the_resource() {
        let pipeline = ClickstreamPipeline::from_yaml(YAML).unwrap();
        let args = args(&["--pipeline", "x.yaml", "--bootstrap-servers", "localhost:1"]);
        let options = sender(&args.kafka, Some(&pipeline)).unwrap();
        let servers: Vec<_> = options
            .properties
            .iter()
            .filter(|(name, _)| name == "bootstrap.servers")
            .collect();
        assert_eq!(
            servers,
            [&("bootstrap.servers".to_owned(), "localhost:1".to_owned())]
        );
    }

    #[test]
    fn without_resource_there_must_be_brokers() {
        assert!(Cli::try_parse_from(["clickstream-producer", "generate"]).is_err());
        assert_eq!(
            sender(&args(&["--bootstrap-servers", "localhost:1"]).kafka, None)
                .unwrap()
                .topic,
            "clickstream"
        );
    }

    #[test]
    fn sending_without_pauses_needs_a_count() {
        let words = [
            "clickstream-producer",
            "generate",
            "--bootstrap-servers",
            "a:1",
            "--as-fast-as-possible",
        ];
        assert!(Cli::try_parse_from(words).is_err());
    }
}
