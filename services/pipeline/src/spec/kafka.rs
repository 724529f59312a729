//! `spec.kafka` and `spec.topics`: where the log is, and which topics of it are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::quantity::Duration;
use super::secret::{self, CaSecret, ClientCertSecret, SecretError, Secrets};
use super::validate::At;

#[cfg(feature = "schema")]
use super::schema;

#[cfg(feature = "schema")]
const KAFKA_RULES: [schema::Rule; 2] = [
    schema::Rule {
        rule: "!has(self.sasl) || self.sasl.mechanism != 'Plain' || has(self.tls)",
        message: "Plain sends the password itself: set tls as well, or use ScramSha512",
        field: ".sasl.mechanism",
    },
    schema::Rule {
        rule: "!has(self.admin) || !has(self.admin.sasl) || self.admin.sasl.mechanism != 'Plain' || has(self.admin.tls) || has(self.tls)",
        message: "Plain sends the password itself: set tls as well, or use ScramSha512",
        field: ".admin.sasl.mechanism",
    },
];

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&KAFKA_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSpec {
    /// Brokers to begin with, as `host:port`, comma-separated. Rolling.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 4096), regex(pattern = schema::BROKERS)))]
    pub bootstrap_servers: String,
    /// Encrypts the connection; its presence alone turns TLS on. Broker names are always checked. Rolling.
    /// Default: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Signs in with a name and a password. Rolling. Default: no sign-in beyond a client certificate in
    /// `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Other credentials for creating and altering topics. Live. Default: those above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<KafkaAdmin>,
}

/// TLS towards the brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// Authorities to trust. Rolling. Default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<CaSecret>,
    /// The certificate to show to brokers that ask for one. Rolling. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<ClientCertSecret>,
}

/// Signing in with a name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSasl {
    /// The mechanism the brokers offer. Rolling.
    pub mechanism: SaslMechanism,
    /// The Secret with name and password. Rolling.
    pub secret: KafkaUserSecret,
}

/// Mechanisms of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SaslMechanism {
    /// SCRAM-SHA-512.
    ScramSha512,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// PLAIN: the password itself crosses the wire, so `tls` is required with it.
    Plain,
}

/// A Secret with a Kafka user's name and password; the defaults fit those that Strimzi writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaUserSecret {
    /// Name of the Secret, in the pipeline's namespace. Rolling.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN)))]
    pub name: String,
    /// Key with the user's name. Rolling. Default `username`; a Secret without that key counts as named after its user, as
    /// Strimzi's are.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "username")]
    pub username_key: String,
    /// Key with the user's password. Rolling. Default `password`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "password")]
    pub password_key: String,
}

/// Credentials for administration; what is absent is taken from `spec.kafka` itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaAdmin {
    /// Sign-in of the administrator. Live. Default: `spec.kafka.sasl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// TLS of the administrator. Live. Default: `spec.kafka.tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
}

/// Who looks after a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TopicManagement {
    /// The operator creates the topic and keeps its partitions, retention and config as written here.
    #[default]
    Managed,
    /// The topic is somebody else's: it is read, and never created, altered or deleted.
    External,
}

impl TopicManagement {
    /// The word in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "Managed",
            Self::External => "External",
        }
    }
}

#[cfg(feature = "schema")]
const TOPIC_RULES: [schema::Rule; 4] = [
    schema::Rule {
        rule: "!has(self.management) || self.management != 'External' || !has(self.adopt) || !self.adopt",
        message: "an External topic is never altered: remove it, or set management: Managed",
        field: ".adopt",
    },
    schema::Rule {
        rule: "!has(self.management) || self.management != 'External' || !has(self.replicationFactor)",
        message: "an External topic is never altered: remove it, or set management: Managed",
        field: ".replicationFactor",
    },
    schema::Rule {
        rule: "!has(self.management) || self.management != 'External' || !has(self.retention)",
        message: "an External topic is never altered: remove it, or set management: Managed",
        field: ".retention",
    },
    schema::Rule {
        rule: "!has(self.management) || self.management != 'External' || !has(self.config) || size(self.config) == 0",
        message: "an External topic is never altered: remove it, or set management: Managed",
        field: ".config",
    },
];

/// Partitions of a topic that is created without saying how many.
const INITIAL_PARTITIONS: u32 = 4;

/// One topic of click events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&TOPIC_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicSpec {
    /// Name of the topic. More topics may be added: Rolling. Renaming or removing one is Refused, since progress is
    /// kept by name: list another topic beside it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 249), regex(pattern = schema::TOPIC)))]
    pub name: String,
    /// Who looks after the topic. Live. Default `Managed`.
    #[serde(default)]
    pub management: TopicManagement,
    /// Takes over a topic that existed before the pipeline. It is never deleted then, and nothing of it changes that is
    /// not named here: its partitions, its settings, and whose time its records carry. Live. Default `false`.
    #[serde(default)]
    pub adopt: bool,
    /// Number of partitions, and with it the largest useful number of replicas. More: Live. Fewer: Refused by the
    /// operator, since Kafka cannot take partitions away. Of an `External` topic it is not used. 1 to 10000. Default: as
    /// many as the topic has; 4 when it is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10_000)))]
    pub partitions: Option<u32>,
    /// Copies of each partition, fixed when the topic is created; another number is Refused by the operator
    /// afterwards. 1 to 100. Default: the broker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    pub replication_factor: Option<u16>,
    /// How long records stay in the log, and so how long an outage may last. Live. 1h to 87600h. Default: the
    /// broker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("1h", "87600h"))))]
    pub retention: Option<Duration>,
    /// Further settings of the topic, in Kafka's own names and values. `message.timestamp.type` may be `LogAppendTime`, as a
    /// topic has it that the operator creates; named here, one that is adopted is switched to it. Live. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::topic_config"))]
    pub config: BTreeMap<String, String>,
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self {
            name: "clickstream".to_owned(),
            management: TopicManagement::Managed,
            adopt: false,
            partitions: None,
            replication_factor: None,
            retention: None,
            config: BTreeMap::new(),
        }
    }
}

impl TopicSpec {
    /// The number of partitions that the topic is created with.
    #[must_use]
    pub fn initial_partitions(&self) -> u32 {
        self.partitions.unwrap_or(INITIAL_PARTITIONS)
    }
}

impl KafkaUserSecret {
    /// The user's name. Strimzi names a user's Secret after the user, and puts no name into it.
    fn user(&self, secrets: &dyn Secrets) -> Result<String, SecretError> {
        match secrets.read(&self.name, &self.username_key)? {
            Some(name) => Ok(name),
            None if self.username_key == username() => Ok(self.name.clone()),
            None => Err(SecretError::Missing {
                absent: secrets.absent(&self.name, &[&self.username_key]),
                what: "the name of the Kafka user",
            }),
        }
    }
}

impl SaslMechanism {
    /// The mechanism as the Kafka protocol calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }
}

impl KafkaSpec {
    /// The connection as properties of librdkafka. The list holds secrets: hand it on, never log it.
    ///
    /// Broker names are verified (librdkafka's default), and no field of the spec can turn that off.
    ///
    /// # Errors
    /// [`SecretError`] for the first value that a Secret should hold and does not.
    pub fn client_properties(
        &self,
        secrets: &dyn Secrets,
    ) -> Result<Vec<(String, String)>, SecretError> {
        properties(
            &self.bootstrap_servers,
            self.tls.as_ref(),
            self.sasl.as_ref(),
            secrets,
        )
    }

    /// The same for the client that administers topics.
    ///
    /// # Errors
    /// As [`KafkaSpec::client_properties`].
    pub fn admin_properties(
        &self,
        secrets: &dyn Secrets,
    ) -> Result<Vec<(String, String)>, SecretError> {
        let admin = self.admin.as_ref();
        let tls = admin
            .and_then(|admin| admin.tls.as_ref())
            .or(self.tls.as_ref());
        let sasl = admin
            .and_then(|admin| admin.sasl.as_ref())
            .or(self.sasl.as_ref());
        properties(&self.bootstrap_servers, tls, sasl, secrets)
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        let brokers = self.bootstrap_servers.split(',');
        if self.bootstrap_servers.len() > 4096 {
            at.field("bootstrapServers")
                .problem("list fewer brokers: a few are enough to find all others");
        } else if !brokers.into_iter().all(is_host_and_port) {
            at.field("bootstrapServers")
                .problem("write host:port, or several separated by commas and without spaces");
        }
        check_credentials(
            self.tls.as_ref(),
            self.sasl.as_ref(),
            self.tls.is_some(),
            at,
        );
        if let Some(admin) = &self.admin {
            let encrypted = admin.tls.is_some() || self.tls.is_some();
            check_credentials(
                admin.tls.as_ref(),
                admin.sasl.as_ref(),
                encrypted,
                &mut at.field("admin"),
            );
        }
    }
}

fn properties(
    bootstrap_servers: &str,
    tls: Option<&KafkaTls>,
    sasl: Option<&KafkaSasl>,
    secrets: &dyn Secrets,
) -> Result<Vec<(String, String)>, SecretError> {
    let protocol = match (tls, sasl) {
        (None, None) => "PLAINTEXT",
        (Some(_), None) => "SSL",
        (None, Some(_)) => "SASL_PLAINTEXT",
        (Some(_), Some(_)) => "SASL_SSL",
    };
    let mut properties = vec![
        ("bootstrap.servers".to_owned(), bootstrap_servers.to_owned()),
        ("security.protocol".to_owned(), protocol.to_owned()),
    ];
    let mut set = |name: &str, value: String| properties.push((name.to_owned(), value));
    if let Some(authorities) = tls.and_then(|tls| tls.ca_secret.as_ref()) {
        set("ssl.ca.pem", authorities.read(secrets)?);
    }
    if let Some(client) = tls.and_then(|tls| tls.client_cert_secret.as_ref()) {
        let (certificate, key) = client.read(secrets)?;
        set("ssl.certificate.pem", certificate);
        set("ssl.key.pem", key.expose().clone());
    }
    if let Some(KafkaSasl {
        mechanism,
        secret: user,
    }) = sasl
    {
        let name = user.user(secrets)?;
        let password = secret::required(
            secrets,
            &user.name,
            &user.password_key,
            "the password of the Kafka user",
        )?;
        set("sasl.mechanism", mechanism.as_str().to_owned());
        set("sasl.username", secret::one_line(name));
        set("sasl.password", secret::one_line(password));
    }
    Ok(properties)
}

fn check_credentials(
    tls: Option<&KafkaTls>,
    sasl: Option<&KafkaSasl>,
    encrypted: bool,
    at: &mut At<'_>,
) {
    if let Some(tls) = tls {
        let mut at = at.field("tls");
        if let Some(authorities) = &tls.ca_secret {
            authorities.check(&mut at.field("caSecret"));
        }
        if let Some(client) = &tls.client_cert_secret {
            client.check(&mut at.field("clientCertSecret"));
        }
    }
    if let Some(sasl) = sasl {
        let mut at = at.field("sasl");
        secret::check_name(&sasl.secret.name, &mut at.field("secret").field("name"));
        secret::check_key(
            &sasl.secret.username_key,
            &mut at.field("secret").field("usernameKey"),
        );
        secret::check_key(
            &sasl.secret.password_key,
            &mut at.field("secret").field("passwordKey"),
        );
        if sasl.mechanism == SaslMechanism::Plain && !encrypted {
            at.field("mechanism")
                .problem("Plain sends the password itself: set tls as well, or use ScramSha512");
        }
    }
}

/// Checks the list as a whole and every topic in it.
pub(super) fn check_topics(topics: &[TopicSpec], at: &mut At<'_>) {
    if topics.is_empty() || topics.len() > 16 {
        at.problem("list 1 to 16 topics");
    }
    let mut names = BTreeSet::new();
    for (index, topic) in topics.iter().enumerate() {
        let mut at = at.index(index);
        // Kafka's metrics cannot tell `.` from `_`, so brokers refuse two names that differ in nothing else
        if !names.insert(topic.name.replace('.', "_")) {
            at.field("name")
                .problem("listed twice (`.` and `_` count as the same); remove one");
        }
        topic.check(&mut at);
    }
}

impl TopicSpec {
    fn check(&self, at: &mut At<'_>) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let name = &self.name;
        if name.is_empty()
            || name.len() > 249
            || name == "."
            || name == ".."
            || !name.chars().all(allowed)
        {
            at.field("name")
                .problem("use 1 to 249 letters, digits, `.`, `_` or `-`");
        }
        if let Some(partitions) = self.partitions {
            at.field("partitions").within(partitions, 1..=10_000);
        }
        if self.management == TopicManagement::External {
            self.check_external(at);
            return;
        }
        if let Some(replicas) = self.replication_factor {
            at.field("replicationFactor").within(replicas, 1..=100);
        }
        if let Some(retention) = self.retention {
            at.field("retention").within(
                retention,
                Duration::from_hours(1)..=Duration::from_hours(87_600),
            );
        }
        let mut config = at.field("config");
        if self.config.len() > 64 {
            config.problem("list at most 64 settings");
        }
        for (key, value) in &self.config {
            let mut at = config.field(key);
            if value.chars().count() > 4096 {
                at.problem("give a value of at most 4096 characters");
            }
            match key.as_str() {
                "retention.ms" => at.problem("set `retention` of the topic instead"),
                "message.timestamp.type" if value != "LogAppendTime" => {
                    at.problem(
                        "remove it, or set it to LogAppendTime, which lateness and replays rely on",
                    );
                }
                "cleanup.policy" => {
                    at.problem("remove it: compaction would delete events of the same key")
                }
                key if key.is_empty() || !key.chars().all(allowed) => {
                    at.problem("not a setting of Kafka")
                }
                _ => {}
            }
        }
    }

    /// Nothing may ask for changes of a topic that must not be changed.
    fn check_external(&self, at: &mut At<'_>) {
        let asked = [
            ("adopt", self.adopt),
            ("replicationFactor", self.replication_factor.is_some()),
            ("retention", self.retention.is_some()),
            ("config", !self.config.is_empty()),
        ];
        for (field, _) in asked.into_iter().filter(|(_, is_set)| *is_set) {
            at.field(field).problem(
                "an External topic is never altered: remove it, or set management: Managed",
            );
        }
    }
}

/// `host:port` or `[v6]:port`.
fn is_host_and_port(broker: &str) -> bool {
    let Some((host, port)) = broker.rsplit_once(':') else {
        return false;
    };
    let is_address = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => super::connection::is_host(host) && !host.contains(':'),
    };
    is_address
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn username() -> String {
    "username".to_owned()
}

fn password() -> String {
    "password".to_owned()
}
