//! What the platform allows pipelines to name: images, brokers and priority classes. Whoever may
//! create a pipeline has the operator dial brokers from where it is, and pods run images and push
//! others aside; these lists say which. Pure.

mod injected;

use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use clickstream_pipeline::spec::{ClickstreamPipeline as Document, Problem};

use crate::topics::qualified;

/// How many entries of a list a message names.
const NAMED: usize = 5;
/// What an image ends with that can be no other one tomorrow.
const DIGEST: &str = "@sha256";

/// The lists; one that is empty allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    images: Vec<Image>,
    brokers: Vec<Broker>,
    priority_classes: Vec<String>,
    /// Namespace of the operator, whose people can extend the lists.
    asked_in: Option<String>,
}

/// Images of a repository and of those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    written: String,
    repository: String,
    by_digest: bool,
}

/// Brokers by name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broker {
    written: String,
    hosts: Hosts,
    /// Any, if none.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// This one.
    Name(String),
    /// All names of one more label; the empty one stands for all names without a point.
    Below(String),
    /// Addresses with these first bits.
    Addresses(IpAddr, u8),
}

impl Allowed {
    /// Reads the lists. `asked_in` is the operator's namespace, for messages.
    ///
    /// # Errors
    /// An entry that cannot be read.
    pub fn new(
        images: &[String],
        brokers: &[String],
        priority_classes: &[String],
        asked_in: Option<&str>,
    ) -> anyhow::Result<Self> {
        let images = images.iter().map(|text| Image::read(text));
        let brokers = brokers.iter().map(|text| {
            Broker::read(text).with_context(|| {
                format!(
                    "allowed brokers: {text:?} is none of HOST:PORT, *.DOMAIN:PORT and ADDRESS/BITS:PORT, each with or without port"
                )
            })
        });
        Ok(Self {
            images: images.collect::<anyhow::Result<_>>()?,
            brokers: brokers.collect::<anyhow::Result<_>>()?,
            priority_classes: priority_classes.to_vec(),
            asked_in: asked_in.map(str::to_owned),
        })
    }

    /// Everything in a document that is not allowed, by its field.
    pub fn problems(&self, document: &Document) -> Vec<Problem> {
        let spec = &document.spec;
        let mut problems = Vec::new();
        let mut refuse = |path: String, value: &str, list: &str, entries: Vec<&str>| {
            let more = if entries.len() > NAMED { ", ..." } else { "" };
            let named = entries[..entries.len().min(NAMED)].join(", ");
            let whom = match &self.asked_in {
                Some(namespace) => format!("whoever runs the operator in namespace {namespace}"),
                None => "whoever runs the operator".to_owned(),
            };
            let message = format!(
                "{value} is not among what this platform allows ({named}{more}): choose one of these, or ask {whom} to add it to pipelines.allowed.{list}"
            );
            problems.push(Problem { path, message });
        };
        let images = [
            ("spec.image", &spec.image),
            ("spec.producer.image", &spec.producer.image),
        ];
        for (path, image) in images {
            if let Some(image) = image
                && !self.allows_image(image)
            {
                let entries = self.images.iter().map(|image| image.written.as_str());
                refuse(path.to_owned(), image, "images", entries.collect());
            }
        }
        let namespace = &document.metadata.namespace;
        for broker in spec.kafka.bootstrap_servers.split(',') {
            if !self.allows_broker(broker, namespace) {
                let entries = self.brokers.iter().map(|broker| broker.written.as_str());
                let path = "spec.kafka.bootstrapServers".to_owned();
                refuse(path, broker, "brokers", entries.collect());
            }
        }
        for (path, pod) in spec.places_of_pods() {
            if let Some(class) = pod.template.priority_class_name.as_deref()
                && !self.allows_priority_class(class)
            {
                let entries = self.priority_classes.iter().map(String::as_str);
                let path = format!("{path}.priorityClassName");
                refuse(path, class, "priorityClasses", entries.collect());
            }
        }
        if !self.images.is_empty() {
            for (path, pod) in spec.places_of_pods() {
                problems.extend(injected::problems(&path, &pod.template.annotations));
            }
        }
        problems
    }

    fn allows_image(&self, image: &str) -> bool {
        self.images.is_empty() || self.images.iter().any(|allowed| allowed.has(image))
    }

    /// Whether an image of before may run that nobody names any more: one that pipelines may name,
    /// or one of the repository that the operator's own image comes from.
    pub fn allows_image_of_before(&self, image: &str, own: &str) -> bool {
        self.allows_image(image) || repository_of(image) == repository_of(own)
    }

    /// Whether a broker may be dialled, by its name as it is written or as the operator completes
    /// it.
    fn allows_broker(&self, broker: &str, namespace: &str) -> bool {
        let complete = qualified(broker, namespace);
        self.brokers.is_empty()
            || self
                .brokers
                .iter()
                .any(|allowed| allowed.has(broker) || allowed.has(&complete))
    }

    fn allows_priority_class(&self, class: &str) -> bool {
        self.priority_classes.is_empty() || self.priority_classes.iter().any(|name| name == class)
    }
}

/// An image without tag and digest.
fn repository_of(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // otherwise it is the port of a registry
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

impl Image {
    fn read(text: &str) -> anyhow::Result<Self> {
        let (repository, by_digest) = match text.strip_suffix(DIGEST) {
            Some(repository) => (repository, true),
            None => (text, false),
        };
        let repository = repository.trim_end_matches('/');
        ensure!(
            !repository.is_empty() && !repository.contains(['@', '*', ' ']),
            "allowed images: {text:?} is no beginning of images' names, alone or with {DIGEST}"
        );
        Ok(Self {
            written: text.to_owned(),
            repository: repository.to_owned(),
            by_digest,
        })
    }

    fn has(&self, image: &str) -> bool {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        let is_digest = |digest: &str| {
            let hex = digest.strip_prefix("sha256:");
            hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        // a part of a name is no beginning of it: team-of-others is not below team, nor is
        // team:443/others, of a registry at a port
        let is_tag = |rest: &str| rest.strip_prefix(':').is_some_and(|tag| !tag.contains('/'));
        let rest = name.strip_prefix(&self.repository);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || is_tag(rest))
            && (!self.by_digest || digest.is_some_and(is_digest))
    }
}

impl Broker {
    fn read(text: &str) -> anyhow::Result<Self> {
        let (host, port) = apart(text);
        let port = port.map(str::parse).transpose()?;
        let hosts = match host.split_once('/') {
            Some((address, bits)) => {
                let address: IpAddr = address.parse()?;
                let bits: u8 = bits.parse()?;
                let all = if address.is_ipv4() { 32 } else { 128 };
                ensure!(bits <= all, "an address has no {bits} bits");
                Hosts::Addresses(address, bits)
            }
            None => match (host.parse(), host.strip_prefix('*')) {
                (Ok(IpAddr::V4(address)), _) => Hosts::Addresses(address.into(), 32),
                (Ok(IpAddr::V6(address)), _) => Hosts::Addresses(address.into(), 128),
                (Err(_), Some("")) => Hosts::Below(String::new()),
                (Err(_), Some(domain)) if domain.starts_with('.') && !domain.contains('*') => {
                    Hosts::Below(plain(domain))
                }
                (Err(_), Some(_)) => bail!("* stands for the first part of a name"),
                (Err(_), None) => {
                    ensure!(!host.is_empty() && !host.contains(['*', ' ']), "no name");
                    Hosts::Name(plain(host))
                }
            },
        };
        Ok(Self {
            written: text.to_owned(),
            hosts,
            port,
        })
    }

    fn has(&self, broker: &str) -> bool {
        let (host, port) = apart(broker);
        let port_fits = match self.port {
            Some(allowed) => port.is_some_and(|port| port.parse() == Ok(allowed)),
            None => true,
        };
        let host_fits = match (&self.hosts, host.parse::<IpAddr>()) {
            (Hosts::Addresses(first, bits), Ok(address)) => shares(*first, address, *bits),
            (Hosts::Name(name), Err(_)) => *name == plain(host),
            // without a domain it is one in the pipeline's namespace, and this machine is in none
            (Hosts::Below(domain), Err(_)) if domain.is_empty() => {
                let host = plain(host);
                !host.is_empty() && !host.contains('.') && host != "localhost"
            }
            (Hosts::Below(domain), Err(_)) => {
                let host = plain(host);
                let label = host.strip_suffix(domain.as_str());
                label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            _ => false,
        };
        port_fits && host_fits
    }
}

/// Host and port; IPv6 addresses stand in brackets where a port follows.
fn apart(text: &str) -> (&str, Option<&str>) {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

/// Names differ neither by case nor by the point at their end.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether two addresses have the same first bits. One of IPv4 that is written as IPv6 is one of
/// IPv4.
fn shares(first: IpAddr, address: IpAddr, bits: u8) -> bool {
    let shifted = |address: u128, all: u8| address.checked_shr(u32::from(all - bits)).unwrap_or(0);
    match (first, address.to_canonical()) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let [first, address] = [first, address].map(|address| u128::from(address.to_bits()));
            shifted(first, 32) == shifted(address, 32)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            shifted(first.to_bits(), 128) == shifted(address.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn allowed(images: &[&str], brokers: &[&str], classes: &[&str]) -> Allowed {
        let all = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Allowed::new(&all(images), &all(brokers), &all(classes), Some("system")).unwrap()
    }

    fn dials(allowed_brokers: &[&str], broker: &str) -> bool {
        allowed(&[], allowed_brokers, &[]).allows_broker(broker, "shop")
    }

    #[test]
    fn an_empty_list_allows_everything() {
        let all = allowed(&[], &[], &[]);
        assert!(all.allows_image("evil:1") && all.allows_priority_class("system-node-critical"));
        assert!(all.allows_broker("169.254.169.254:80", "shop"));
    }

    #[test]
    fn images_are_allowed_by_repository_and_perhaps_by_digest_only() {
        let digest = format!("@sha256:{}", "0a".repeat(32));
        let by = |entry: &str, image: &str| allowed(&[entry], &[], &[]).allows_image(image);
        for entry in ["r.example.com/team", "r.example.com/team/"] {
            for fine in [
                "r.example.com/team/a:1",
                "r.example.com/team/a/b",
                "r.example.com/team:2",
            ] {
                assert!(by(entry, fine), "{entry} {fine}");
            }
            for other in [
                "r.example.com/team-evil/a:1",
                "evil.com/r.example.com/team/a",
                "team/a",
                "R.example.com/team/a",
            ] {
                assert!(!by(entry, other), "{entry} {other}");
            }
        }
        // a colon begins a tag, or the port of a registry
        for (entry, other) in [
            ("r.example.com", "r.example.com:8443/evil:1"),
            ("team", "team:443/evil"),
            ("r.example.com/team", "r.example.com/team:1/evil"),
        ] {
            assert!(!by(entry, other), "{entry} {other}");
        }
        for (entry, fine) in [
            ("r.example.com:8443", "r.example.com:8443/team:1"),
            ("r.example.com:8443/team", "r.example.com:8443/team:1"),
            ("team", &format!("team:1{digest}")),
        ] {
            assert!(by(entry, fine), "{entry} {fine}");
        }
        let strict = "r.example.com/team@sha256";
        assert!(by(strict, &format!("r.example.com/team/a:1{digest}")));
        for other in [
            "r.example.com/team/a:1",
            "r.example.com/team/a@sha256:12",
            "r.example.com/team/a:1@md5:00",
        ] {
            assert!(!by(strict, other), "{other}");
        }
    }

    #[test]
    fn an_image_of_before_is_one_that_is_allowed_or_of_the_operators_own_repository() {
        let lists = allowed(&["r.example.com/team"], &[], &[]);
        let digest = format!("@sha256:{}", "0a".repeat(32));
        let own = "ghcr.example.com:5000/clickstream/processor:2";
        for fine in [
            "r.example.com/team/a:1",
            "ghcr.example.com:5000/clickstream/processor:1",
            &format!("ghcr.example.com:5000/clickstream/processor{digest}"),
        ] {
            assert!(lists.allows_image_of_before(fine, own), "{fine}");
        }
        for other in [
            "evil:1",
            "ghcr.example.com:5000/evil:1",
            "ghcr.example.com:5000/clickstream/processor/evil:1",
            "ghcr.example.com:5000/clickstream/processor:1/evil",
            "ghcr.example.com",
            "",
        ] {
            assert!(!lists.allows_image_of_before(other, own), "{other}");
        }
        assert!(allowed(&[], &[], &[]).allows_image_of_before("evil:1", own));
    }

    #[test]
    fn brokers_are_allowed_by_name_by_one_label_or_by_address() {
        assert!(dials(&["b.example.com:9093"], "B.example.com.:9093"));
        assert!(!dials(&["b.example.com:9093"], "b.example.com:22"));
        assert!(dials(&["b.example.com"], "b.example.com:22"));
        assert!(dials(&["*.example.com:9093"], "b1.example.com:9093"));
        for other in [
            "example.com:9093",
            "a.b.example.com:9093",
            ".example.com:9093",
            "evilexample.com:9093",
            "b.example.com.evil.com:9093",
        ] {
            assert!(!dials(&["*.example.com:9093"], other), "{other}");
        }
        assert!(dials(&["10.0.0.0/8:9092"], "10.1.2.3:9092"));
        assert!(!dials(&["10.0.0.0/8:9092"], "11.1.2.3:9092"));
        assert!(!dials(&["10.0.0.0/8:9092"], "10.example.com:9092"));
        assert!(dials(&["0.0.0.0/0"], "1.2.3.4:5") && !dials(&["0.0.0.0/0"], "[fd00::1]:5"));
        assert!(dials(&["[fd00::/8]:9092"], "[fd00::1]:9092"));
        assert!(dials(&["10.0.0.0/8"], "[::ffff:10.1.2.3]:9092"));
        assert!(!dials(&["fd00::/8"], "[fe80::1]:9092"));
    }

    #[test]
    fn a_broker_without_a_domain_is_one_of_the_pipelines_namespace() {
        assert!(dials(&["*.shop.svc:9092"], "kafka:9092"));
        assert!(!dials(&["*.other.svc:9092"], "kafka:9092"));
        assert!(dials(&["*:9092"], "kafka:9092"));
        for other in ["localhost:9092", "kafka.other.svc:9092", "127.0.0.1:9092"] {
            assert!(!dials(&["*:9092"], other), "{other}");
        }
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused_at_the_start() {
        for text in [
            "",
            "*a.example.com",
            "a.*.com",
            "*.*.com",
            "10.0.0.0/33",
            "10.0.0/8",
            "a:port",
            "a b",
        ] {
            assert!(Broker::read(text).is_err(), "{text}");
        }
        for text in ["", "@sha256", "a@sha256:12", "*"] {
            assert!(Image::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_told_by_field_value_and_whom_to_ask() {
        let document = Document::from_yaml(
            "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata: { name: web, namespace: shop }\nspec:\n  image: evil:1\n  kafka: { bootstrapServers: 'b.example.com:9093,169.254.169.254:80' }\n  targets: [{ connection: { secret: { name: postgres } } }]\n  processor: { priorityClassName: system-node-critical }\n",
        )
        .unwrap();
        let lists = allowed(&["r.example.com/team"], &["*.example.com:9093"], &["batch"]);
        let told: Vec<_> = lists
            .problems(&document)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        for (told, parts) in told.iter().zip([
            ["spec.image", "evil:1", "pipelines.allowed.images"],
            [
                "spec.kafka.bootstrapServers",
                "169.254.169.254:80",
                "pipelines.allowed.brokers",
            ],
            [
                "priorityClassName",
                "system-node-critical",
                "pipelines.allowed.priorityClasses",
            ],
        ]) {
            for part in parts.into_iter().chain(["in namespace system"]) {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
    }
}
