//! The options of `run`. Every one can also be given as the environment variable that its help names.

use clap::Args;
use clickstream_telemetry::admin::AdminArgs;

use crate::settings::Network;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Namespaces to watch, comma-separated; none: all of them.
    #[arg(long, value_delimiter = ',', env = "CLICKSTREAM_NAMESPACES")]
    pub namespaces: Vec<String>,
    /// Image of processors and migrations, unless a pipeline pins one. Has to be named: this project's are in no public registry.
    #[arg(long, env = "CLICKSTREAM_PROCESSOR_IMAGE", value_name = "IMAGE")]
    pub processor_image: String,
    /// Image of the producer, unless a pipeline pins one; as that of the processor.
    #[arg(long, env = "CLICKSTREAM_PRODUCER_IMAGE", value_name = "IMAGE")]
    pub producer_image: String,
    /// Secrets with credentials of image registries, comma-separated; they have to be in the pipelines' namespaces.
    #[arg(long, value_delimiter = ',', env = "CLICKSTREAM_IMAGE_PULL_SECRETS")]
    pub image_pull_secrets: Vec<String>,
    /// When pods pull their images: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "CLICKSTREAM_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"]
    )]
    pub image_pull_policy: String,
    /// The admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Has the Kubernetes API review the tokens that /status and /metrics want: whoever may get these paths may read them. Takes
    /// --admin-tls, and the right to create tokenreviews and subjectaccessreviews.
    #[arg(
        long,
        env = "CLICKSTREAM_ADMIN_TOKEN_REVIEW",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set,
        conflicts_with = "admin_tokens"
    )]
    pub admin_token_review: bool,
    /// Namespace of the Lease by which one of several operators acts; without it this one acts at once.
    #[arg(long, env = "CLICKSTREAM_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this process in the Lease and in Events. Default: the host's name.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Pipelines that may roll at the same time after an upgrade of the operator.
    #[arg(long, env = "CLICKSTREAM_UPGRADE_MAX_CONCURRENT", default_value = "1")]
    pub upgrade_max_concurrent: usize,
    /// How long others wait for a pipeline that rolls and does not become Ready, in seconds; 0: until it does.
    #[arg(
        long,
        env = "CLICKSTREAM_UPGRADE_DEADLINE",
        value_name = "SECONDS",
        default_value = "600"
    )]
    pub upgrade_deadline: u32,
    /// Labels of pipelines that roll before all others, comma-separated. One of them that was Ready and does not become so again stops the
    /// others, whatever the deadline.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_UPGRADE_CANARIES",
        value_name = "KEY=VALUE"
    )]
    pub upgrade_canaries: Vec<String>,
    /// How long each step of a deletion (pods, tables, topics) is tried before it is given up and written down.
    #[arg(
        long,
        env = "CLICKSTREAM_DELETION_PATIENCE",
        value_name = "SECONDS",
        default_value = "300"
    )]
    pub deletion_patience: u64,
    /// Images that pipelines may pin, comma-separated: the name of a repository, which stands for those below it as well, or the same
    /// with @sha256 behind it, by digest only. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_IMAGES",
        value_name = "REPOSITORY"
    )]
    pub allowed_images: Vec<String>,
    /// Brokers that pipelines may name, comma-separated: HOST:PORT, *.DOMAIN:PORT, *:PORT for Services of the pipeline's own namespace,
    /// ADDRESS/BITS:PORT, each with or without port. No other one is dialled. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_BROKERS",
        value_name = "BROKER"
    )]
    pub allowed_brokers: Vec<String>,
    /// Priority classes that pipelines may name, comma-separated. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_PRIORITY_CLASSES",
        value_name = "NAME"
    )]
    pub allowed_priority_classes: Vec<String>,
    /// How soon a change of a Secret is followed while nothing waits for it. While something does, it is some seconds.
    #[arg(
        long,
        env = "CLICKSTREAM_SECRETS_INTERVAL",
        value_name = "SECONDS",
        default_value = "600",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub secrets_interval: u64,
    /// Gives pods NetworkPolicies: their admin port for those who are named, and DNS, Kafka, PostgreSQL and the Collector for them.
    #[arg(
        long,
        env = "CLICKSTREAM_NETWORK_POLICY",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set
    )]
    pub network_policy: bool,
    /// Peers of those policies as JSON: `from`, who may ask the admin port (default: operators in the Lease's namespace), `kafka` and
    /// `postgres`, where those are (default: anywhere), `collector`, where Collectors are (default: where the address that pods are
    /// given says), each a list of NetworkPolicyPeers; `egress`, further rules.
    #[arg(
        long,
        env = "CLICKSTREAM_NETWORK_POLICY_PEERS",
        value_name = "JSON",
        value_parser = network
    )]
    pub network_policy_peers: Option<Network>,
    /// Gives processors a PodMonitor, where the Prometheus operator is installed.
    #[arg(
        long,
        env = "CLICKSTREAM_POD_MONITOR",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set
    )]
    pub pod_monitor: bool,
    /// Labels by which Prometheus selects those PodMonitors, comma-separated, such as release=prometheus.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_POD_MONITOR_LABELS",
        value_name = "KEY=VALUE"
    )]
    pub pod_monitor_labels: Vec<String>,
    /// Interval between two scrapes, such as 15s; without it Prometheus' own.
    #[arg(
        long,
        env = "CLICKSTREAM_POD_MONITOR_INTERVAL",
        value_name = "DURATION"
    )]
    pub pod_monitor_interval: Option<String>,
    /// Name of a Secret in the namespaces of pipelines, with tls.crt, tls.key and ca.crt: processors and producers are then asked by
    /// TLS. Its certificate has to be valid for clickstream-metrics.NAMESPACE.svc.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TLS_SECRET",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_tls_secret: String,
    /// Name of a Secret in the namespaces of pipelines, with a token under each key: /status and /metrics of processors and producers
    /// then want one of them.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TOKEN_SECRET",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_token_secret: String,
    /// The key of the token that operator and PodMonitors show.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TOKEN_KEY",
        value_name = "KEY",
        default_value = "token"
    )]
    pub metrics_token_key: String,
}

fn network(text: &str) -> Result<Network, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Debug, Parser)]
    struct Run {
        #[command(flatten)]
        args: RunArgs,
    }

    fn read(words: &[&str]) -> Result<RunArgs, clap::Error> {
        let images = ["run", "--processor-image=a", "--producer-image=b"];
        Run::try_parse_from(images.iter().chain(words)).map(|run| run.args)
    }

    #[test]
    fn of_two_ways_to_know_tokens_none_is_passed_over_in_silence() {
        let guarded = ["--admin-listen=[::1]:1", "--admin-tls=/tls"];
        let with = |words: &[&'static str]| read(&[&guarded[..], words].concat());
        let tokens = "--admin-tokens=/tokens";
        for review in ["--admin-token-review", "--admin-token-review=true"] {
            assert!(with(&[review]).unwrap().admin_token_review);
            let error = with(&[review, tokens]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
            for option in ["--admin-token-review", "--admin-tokens"] {
                assert!(error.to_string().contains(option), "{error}");
            }
        }
        assert!(!with(&[tokens]).unwrap().admin_token_review);
    }
}
