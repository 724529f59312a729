//! How PostgreSQL is reached: from the spec, from a Secret, or from both.

use serde::{Deserialize, Serialize};

use super::postgres_uri::PostgresUri;
use super::secret::{self, CaSecret, ClientCertSecret, Redacted, SecretError, Secrets};
use super::target::TargetSpec;
use super::validate::At;

#[cfg(feature = "schema")]
use super::schema;

#[cfg(feature = "schema")]
const CONNECTION_RULES: [schema::Rule; 2] = [
    schema::Rule {
        rule: "has(self.secret) || (has(self.host) && has(self.database) && has(self.user))",
        message: "name a secret, or give host, database and user",
        field: "",
    },
    schema::Rule {
        rule: "!has(self.sslMode) || self.sslMode != 'Disable' || (!has(self.caSecret) && !has(self.clientCertSecret))",
        message: "Disable leaves the certificates unused: remove them, or choose VerifyFull",
        field: ".sslMode",
    },
];

/// A PostgreSQL connection. Every part may come from the Secret; what stands in the spec wins. It must reach the server
/// directly or through session pooling, since progress is guarded by session locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&CONNECTION_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// The Secret with what is not given here, and with the password. Rolling. Default: none; `host`, `database` and
    /// `user` are required then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ConnectionSecret>,
    /// Name or address of the server. Rolling. Default: the Secret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::HOST)))]
    pub host: Option<String>,
    /// TCP port. Rolling. Default: the Secret's, or else 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub port: Option<u16>,
    /// Name of the database. Rolling. Default: the Secret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63), regex(pattern = schema::PRINTABLE)))]
    pub database: Option<String>,
    /// The role to sign in as. Rolling. Default: the Secret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63), regex(pattern = schema::PRINTABLE)))]
    pub user: Option<String>,
    /// How far the connection is secured. Rolling. Default: `VerifyFull` with a `caSecret`, else what the Secret's URI demands,
    /// else `Disable` for a loopback host and `Require` for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_mode: Option<SslMode>,
    /// Authorities to trust. Rolling. Default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<CaSecret>,
    /// The certificate to show to the server. Rolling. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<ClientCertSecret>,
}

/// A Secret that describes a connection; the defaults fit those that CloudNativePG writes (`<cluster>-app`) as they are.
/// A key that does not exist is simply not given, and the URI fills in what the single keys leave open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSecret {
    /// Name of the Secret, in the pipeline's namespace. Rolling.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN)))]
    pub name: String,
    /// Key with the host. Rolling. Default `host`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "host")]
    pub host_key: String,
    /// Key with the port. Rolling. Default `port`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "port")]
    pub port_key: String,
    /// Key with the database. Rolling. Default `dbname`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "dbname")]
    pub database_key: String,
    /// Key with the role. Rolling. Default `username`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "username")]
    pub user_key: String,
    /// Key with the password. Rolling. Default `password`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "password")]
    pub password_key: String,
    /// Key with a `postgresql://` URI. Rolling. Default `uri`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "uri")]
    pub uri_key: String,
}

/// How far a PostgreSQL connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SslMode {
    /// Plaintext.
    Disable,
    /// Encrypted, but the server's identity is not checked.
    Require,
    /// Encrypted, and the server's certificate must be trusted and be for the host's name.
    VerifyFull,
}

/// Everything a client needs to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Name or address of the server.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// The role to sign in as.
    pub user: String,
    /// The role's password, unless the server needs none.
    pub password: Option<Redacted<String>>,
    /// How far the connection is secured.
    pub ssl_mode: SslMode,
    /// Authorities to trust, in PEM form.
    pub ca_pem: Option<String>,
    /// Certificate chain to show, in PEM form.
    pub client_cert_pem: Option<String>,
    /// Private key of that certificate, in PEM form.
    pub client_key_pem: Option<Redacted<String>>,
}

impl TargetSpec {
    /// How the processors connect.
    ///
    /// # Errors
    /// [`SecretError`] for the first value that is given nowhere or has the wrong form.
    pub fn connection_settings(
        &self,
        secrets: &dyn Secrets,
    ) -> Result<PostgresSettings, SecretError> {
        self.connection.settings(secrets)
    }

    /// How migrations connect.
    ///
    /// # Errors
    /// As [`TargetSpec::connection_settings`].
    pub fn migration_settings(
        &self,
        secrets: &dyn Secrets,
    ) -> Result<PostgresSettings, SecretError> {
        self.migration_connection().settings(secrets)
    }
}

impl ConnectionSpec {
    /// Puts the connection together from the spec and its Secrets.
    ///
    /// # Errors
    /// [`SecretError`] for the first value that is given nowhere or has the wrong form.
    pub fn settings(&self, secrets: &dyn Secrets) -> Result<PostgresSettings, SecretError> {
        let given = self
            .secret
            .as_ref()
            .map(|secret| secret.read(secrets))
            .transpose()?
            .unwrap_or_default();
        let unset = |what, field, key: fn(&ConnectionSecret) -> &String| SecretError::Unset {
            what,
            field,
            absent: self.secret.as_ref().map(|secret| {
                let keys = [key(secret).as_str(), secret.uri_key.as_str()];
                let named = if given.has_uri { &keys[..1] } else { &keys[..] };
                secrets.absent(&secret.name, named)
            }),
        };

        let host = self
            .host
            .clone()
            .or_else(|| given.host.clone())
            .ok_or_else(|| unset("the host of PostgreSQL", "host", |secret| &secret.host_key))?;
        let database = self
            .database
            .clone()
            .or_else(|| given.database.clone())
            .ok_or_else(|| unset("the database", "database", |secret| &secret.database_key))?;
        let user = self
            .user
            .clone()
            .or_else(|| given.user.clone())
            .ok_or_else(|| unset("the PostgreSQL role", "user", |secret| &secret.user_key))?;
        let ca_pem = self
            .ca_secret
            .as_ref()
            .map(|secret| secret.read(secrets))
            .transpose()?;
        let client = self
            .client_cert_secret
            .as_ref()
            .map(|secret| secret.read(secrets))
            .transpose()?;
        let (client_cert_pem, client_key_pem) = client.unzip();
        let ssl_mode = match (self.ssl_mode, &ca_pem, given.ssl_mode) {
            (Some(chosen), _, _) => chosen,
            (None, Some(_), _) => SslMode::VerifyFull,
            (None, None, Some(demanded)) => demanded,
            (None, None, None) if is_loopback(&host) => SslMode::Disable,
            (None, None, None) => SslMode::Require,
        };
        let port = self.port.or(given.port).unwrap_or(5432);
        let password = given.password.map(Redacted::new);
        Ok(PostgresSettings {
            host,
            port,
            database,
            user,
            password,
            ssl_mode,
            ca_pem,
            client_cert_pem,
            client_key_pem,
        })
    }

    /// Whether the two certainly mean one database, as far as the spec alone tells.
    pub(super) fn same_database(&self, other: &Self) -> bool {
        let place = |connection: &Self| {
            let secret = connection.secret.as_ref().map(|secret| secret.name.clone());
            (
                connection.host.clone(),
                connection.port,
                connection.database.clone(),
                secret,
            )
        };
        let in_spec =
            |connection: &Self| connection.host.is_some() && connection.database.is_some();
        if in_spec(self) && in_spec(other) {
            return self.host == other.host
                && self.port.unwrap_or(5432) == other.port.unwrap_or(5432)
                && self.database == other.database;
        }
        place(self) == place(other)
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        if let Some(secret) = &self.secret {
            secret.check(&mut at.field("secret"));
        } else {
            let parts = [
                ("host", self.host.is_some()),
                ("database", self.database.is_some()),
                ("user", self.user.is_some()),
            ];
            for (field, _) in parts.into_iter().filter(|(_, is_set)| !is_set) {
                at.field(field)
                    .problem("required when the connection has no secret");
            }
        }
        if self.host.as_deref().is_some_and(|host| !is_host(host)) {
            at.field("host")
                .problem("write a host name or an address, without a port");
        }
        if self.port == Some(0) {
            at.field("port").problem("0 is outside 1 to 65535");
        }
        for (field, name) in [("database", &self.database), ("user", &self.user)] {
            if name.as_deref().is_some_and(|name| !is_name(name)) {
                at.field(field).problem(NAME_RULE);
            }
        }
        if let Some(authorities) = &self.ca_secret {
            authorities.check(&mut at.field("caSecret"));
        }
        if let Some(client) = &self.client_cert_secret {
            client.check(&mut at.field("clientCertSecret"));
        }
        if self.ssl_mode == Some(SslMode::Disable)
            && (self.ca_secret.is_some() || self.client_cert_secret.is_some())
        {
            at.field("sslMode").problem(
                "Disable leaves the certificates unused: remove them, or choose VerifyFull",
            );
        }
    }
}

/// What a Secret says about a connection.
#[derive(Default)]
struct Given {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<String>,
    ssl_mode: Option<SslMode>,
    has_uri: bool,
}

impl ConnectionSecret {
    fn read(&self, secrets: &dyn Secrets) -> Result<Given, SecretError> {
        let value = |key: &str| {
            secrets
                .read(&self.name, key)
                .map(|value| value.map(secret::one_line))
        };
        let malformed = |key: &str, rule| SecretError::Malformed {
            secret: self.name.clone(),
            key: key.to_owned(),
            rule,
        };
        let uri = value(&self.uri_key)?;
        let has_uri = uri.is_some();
        let uri = match uri {
            Some(uri) => PostgresUri::parse(&uri).map_err(|rule| malformed(&self.uri_key, rule))?,
            None => PostgresUri::default(),
        };
        let host = value(&self.host_key)?;
        if host.as_deref().is_some_and(|host| !is_host(host)) {
            return Err(malformed(&self.host_key, "not a host name or an address"));
        }
        let port = match value(&self.port_key)? {
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => Some(port),
                _ => {
                    return Err(malformed(
                        &self.port_key,
                        "not a port number from 1 to 65535",
                    ));
                }
            },
            None => None,
        };
        let database = value(&self.database_key)?;
        let user = value(&self.user_key)?;
        for (key, name) in [(&self.database_key, &database), (&self.user_key, &user)] {
            if name.as_deref().is_some_and(|name| !is_name(name)) {
                return Err(malformed(key, NAME_RULE));
            }
        }
        Ok(Given {
            host: host.or(uri.host),
            port: port.or(uri.port),
            database: database.or(uri.database),
            user: user.or(uri.user),
            password: value(&self.password_key)?.or(uri.password),
            ssl_mode: uri.ssl_mode,
            has_uri,
        })
    }

    fn check(&self, at: &mut At<'_>) {
        secret::check_name(&self.name, &mut at.field("name"));
        for (field, key) in [
            ("hostKey", &self.host_key),
            ("portKey", &self.port_key),
            ("databaseKey", &self.database_key),
            ("userKey", &self.user_key),
            ("passwordKey", &self.password_key),
            ("uriKey", &self.uri_key),
        ] {
            secret::check_key(key, &mut at.field(field));
        }
    }
}

/// What PostgreSQL takes as a name of a role or database.
pub(super) const NAME_RULE: &str = "use 1 to 63 bytes without control characters";

/// Whether PostgreSQL could have a role or database of this name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Whether the text can stand where a host is expected: a DNS name or an address.
pub(super) fn is_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    host.parse::<std::net::IpAddr>().is_ok()
        || ((1..=253).contains(&host.len())
            && host.bytes().all(allowed)
            && !host.starts_with(['.', '-']))
}

/// Whether the host is this machine itself.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn host() -> String {
    "host".to_owned()
}

fn port() -> String {
    "port".to_owned()
}

fn dbname() -> String {
    "dbname".to_owned()
}

fn username() -> String {
    "username".to_owned()
}

fn password() -> String {
    "password".to_owned()
}

fn uri() -> String {
    "uri".to_owned()
}
