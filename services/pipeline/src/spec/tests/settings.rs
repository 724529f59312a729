use super::problems::text;
use super::*;

/// The Secret that CloudNativePG writes for an application.
fn cloud_native_pg() -> Table {
    Table::default()
        .with("pg-app", "host", "pg-rw")
        .with("pg-app", "port", "5432")
        .with("pg-app", "dbname", "shop")
        .with("pg-app", "username", "shop")
        .with("pg-app", "password", "s3cret")
        .with(
            "pg-app",
            "uri",
            "postgresql://shop:s3cret@pg-rw.shop:5432/shop",
        )
}

fn uri_only(uri: &str) -> Table {
    Table::default().with("pg-app", "uri", uri)
}

fn connect(secrets: &Table) -> Result<PostgresSettings, String> {
    minimal().spec.targets[0]
        .connection_settings(secrets)
        .map_err(|error| error.to_string())
}

fn properties(pipeline: &ClickstreamPipeline, secrets: &Table) -> BTreeMap<String, String> {
    pipeline
        .spec
        .kafka
        .client_properties(secrets)
        .unwrap()
        .into_iter()
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn kafka_secrets() -> Table {
    Table::default()
        .with("kafka-ca", "root.pem", "CA")
        .with("kafka-client", "c", "CERT")
        .with("kafka-client", "k", "KEY")
        .with("kafka-user", "u", "anna\n")
        .with("kafka-user", "p", "s3cret\n")
        .with("admin-ca", "ca.crt", "ADMIN CA")
        .with("admin", "username", "root")
        .with("admin", "password", "toor")
}

#[test]
fn kafka_without_tls_and_sign_in_is_plaintext() {
    let expected = pairs(&[
        ("bootstrap.servers", "127.0.0.1:9092"),
        ("security.protocol", "PLAINTEXT"),
    ]);
    assert_eq!(properties(&minimal(), &Table::default()), expected);
}

#[test]
fn kafka_with_tls_and_sign_in_has_every_property() {
    let expected = pairs(&[
        ("bootstrap.servers", "kafka-0.kafka:9093,[::1]:9094"),
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.pem", "CA"),
        ("ssl.certificate.pem", "CERT"),
        ("ssl.key.pem", "KEY"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "anna"),
        ("sasl.password", "s3cret"),
    ]);
    assert_eq!(properties(&full(), &kafka_secrets()), expected);
}

#[test]
fn kafkas_protocol_follows_from_what_is_given() {
    let mut pipeline = full();
    pipeline.spec.kafka.sasl = None;
    assert_eq!(
        properties(&pipeline, &kafka_secrets())["security.protocol"],
        "SSL"
    );
    pipeline = full();
    pipeline.spec.kafka.tls = None;
    assert_eq!(
        properties(&pipeline, &kafka_secrets())["security.protocol"],
        "SASL_PLAINTEXT"
    );
}

#[test]
fn the_administrator_has_its_own_credentials_and_otherwise_the_common_ones() {
    let admin = |pipeline: &ClickstreamPipeline| -> BTreeMap<String, String> {
        pipeline
            .spec
            .kafka
            .admin_properties(&kafka_secrets())
            .unwrap()
            .into_iter()
            .collect()
    };
    let own = admin(&full());
    assert_eq!(
        (
            own["sasl.username"].as_str(),
            own["sasl.mechanism"].as_str()
        ),
        ("root", "PLAIN")
    );
    assert_eq!(own["ssl.ca.pem"], "ADMIN CA");
    assert!(
        !own.contains_key("ssl.certificate.pem"),
        "certificates of the processors are not the administrator's"
    );

    let mut pipeline = full();
    pipeline.spec.kafka.admin.as_mut().unwrap().sasl = None;
    assert_eq!(admin(&pipeline)["sasl.username"], "anna");
    pipeline.spec.kafka.admin = None;
    assert_eq!(admin(&pipeline), properties(&pipeline, &kafka_secrets()));
}

#[test]
fn a_missing_kafka_secret_is_named_with_its_key() {
    let error = full()
        .spec
        .kafka
        .client_properties(&Table::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "Secret `kafka-ca` has no key `root.pem`; add it, or name the key that holds the certificates of the authorities to trust"
    );
}

#[test]
fn a_secret_of_cloud_native_pg_is_enough() {
    let settings = connect(&cloud_native_pg()).unwrap();
    let expected = PostgresSettings {
        host: "pg-rw".to_owned(),
        port: 5432,
        database: "shop".to_owned(),
        user: "shop".to_owned(),
        password: Some(Redacted::new("s3cret".to_owned())),
        ssl_mode: SslMode::Require,
        ca_pem: None,
        client_cert_pem: None,
        client_key_pem: None,
    };
    assert_eq!(settings, expected);
}

#[test]
fn a_uri_alone_is_enough() {
    let uri = "postgres://sh%40p:s3%2Fcret@[2001:db8::1]:6543/sh%20op?application_name=x&sslmode=verify-full\n";
    let settings = connect(&uri_only(uri)).unwrap();
    assert_eq!(
        (settings.host.as_str(), settings.port),
        ("2001:db8::1", 6543)
    );
    assert_eq!(
        (settings.database.as_str(), settings.user.as_str()),
        ("sh op", "sh@p")
    );
    assert_eq!(settings.password, Some(Redacted::new("s3/cret".to_owned())));
    assert_eq!(settings.ssl_mode, SslMode::VerifyFull);
}

#[test]
fn the_spec_wins_over_the_keys_and_the_keys_win_over_the_uri() {
    let secrets = uri_only("postgresql://u:uri@uri-host:1111/uri_db")
        .with("pg-app", "host", "key-host")
        .with("pg-app", "password", "key");
    let settings = connect(&secrets).unwrap();
    assert_eq!(
        (
            settings.host.as_str(),
            settings.port,
            settings.database.as_str()
        ),
        ("key-host", 1111, "uri_db")
    );
    assert_eq!(settings.password, Some(Redacted::new("key".to_owned())));

    let mut pipeline = minimal();
    let connection = &mut pipeline.spec.targets[0].connection;
    connection.host = Some("spec-host".to_owned());
    connection.port = Some(2222);
    connection.database = Some("spec_db".to_owned());
    connection.user = Some("spec_user".to_owned());
    let settings = pipeline.spec.targets[0]
        .connection_settings(&secrets)
        .unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("spec-host", 2222));
    assert_eq!(
        (settings.database.as_str(), settings.user.as_str()),
        ("spec_db", "spec_user")
    );
}

#[test]
fn a_connection_needs_no_secret_and_no_password() {
    let mut pipeline = minimal();
    pipeline.spec.targets[0].connection = ConnectionSpec {
        host: Some("127.0.0.1".to_owned()),
        database: Some("shop".to_owned()),
        user: Some("writer".to_owned()),
        ..ConnectionSpec::default()
    };
    assert_eq!(pipeline.validate(), Ok(()));
    let settings = pipeline.spec.targets[0]
        .connection_settings(&Table::default())
        .unwrap();
    assert_eq!(
        (settings.port, settings.password, settings.ssl_mode),
        (5432, None, SslMode::Disable)
    );
}

#[test]
fn the_default_security_depends_on_the_authority_the_uri_and_the_host() {
    let mode = |host: &str, query: &str, ca: bool, chosen: Option<SslMode>| {
        let secrets =
            uri_only(&format!("postgresql://u@{host}/d{query}")).with("ca", "ca.crt", "CA");
        let mut pipeline = minimal();
        let connection = &mut pipeline.spec.targets[0].connection;
        connection.ca_secret = ca.then(|| CaSecret {
            name: "ca".to_owned(),
            key: "ca.crt".to_owned(),
        });
        connection.ssl_mode = chosen;
        pipeline.spec.targets[0]
            .connection_settings(&secrets)
            .unwrap()
            .ssl_mode
    };
    for loopback in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
        assert_eq!(mode(loopback, "", false, None), SslMode::Disable);
    }
    assert_eq!(mode("pg", "", false, None), SslMode::Require);
    assert_eq!(mode("localhost", "", true, None), SslMode::VerifyFull);
    assert_eq!(
        mode("pg", "?sslmode=disable", false, None),
        SslMode::Disable
    );
    assert_eq!(mode("pg", "?sslmode=prefer", false, None), SslMode::Require);
    assert_eq!(
        mode("pg", "?sslmode=verify-ca", false, None),
        SslMode::VerifyFull
    );
    assert_eq!(
        mode("pg", "?sslmode=disable", true, None),
        SslMode::VerifyFull
    );
    assert_eq!(
        mode("pg", "?sslmode=verify-full", true, Some(SslMode::Require)),
        SslMode::Require
    );
}

#[test]
fn certificates_come_from_their_secrets() {
    let secrets = Table::default()
        .with("pg", "p", "s3cret")
        .with("pg-ca", "ca.crt", "CA")
        .with("pg-client", "tls.crt", "CERT")
        .with("pg-client", "tls.key", "KEY");
    let settings = full().spec.targets[0]
        .connection_settings(&secrets)
        .unwrap();
    assert_eq!(
        (
            settings.ca_pem.as_deref(),
            settings.client_cert_pem.as_deref()
        ),
        (Some("CA"), Some("CERT"))
    );
    assert_eq!(
        settings.client_key_pem,
        Some(Redacted::new("KEY".to_owned()))
    );
}

#[test]
fn migrations_connect_by_themselves_or_as_the_processors_do() {
    let secrets = cloud_native_pg().with("pg-owner", "uri", "postgresql://owner@pg-rw/shop");
    let mut pipeline = minimal();
    let user = |pipeline: &ClickstreamPipeline| {
        pipeline.spec.targets[0]
            .migration_settings(&secrets)
            .unwrap()
            .user
    };
    assert_eq!(user(&pipeline), "shop");
    pipeline.spec.targets[0].migration = full().spec.targets[0].migration.clone();
    assert_eq!(user(&pipeline), "owner");
}

#[test]
fn what_a_connection_lacks_is_named() {
    for (uri, error) in [
        (
            "postgresql:///d",
            "the host of PostgreSQL is given neither in the spec nor in a Secret: Secret `pg-app` has no key `host`; add it, or set `host`",
        ),
        (
            "postgresql://u@h",
            "the database is given neither in the spec nor in a Secret: Secret `pg-app` has no key `dbname`; add it, or set `database`",
        ),
        (
            "postgresql://h/d",
            "the PostgreSQL role is given neither in the spec nor in a Secret: Secret `pg-app` has no key `username`; add it, or set `user`",
        ),
    ] {
        assert_eq!(connect(&uri_only(uri)), Err(error.to_owned()));
    }
    assert_eq!(
        connect(&Table::default()),
        Err(text(
            "the host of PostgreSQL is given neither in the spec nor in a Secret: Secret `pg-app` \
             has no key `host` or `uri`; add it, or set `host`"
        ))
    );
}

#[test]
fn malformed_values_are_named_without_being_shown() {
    for (key, value) in [
        ("uri", "mysql://anna:hunter2@h/d"),
        ("uri", "hunter2"),
        ("uri", "postgresql://anna:hunter2@a,b/d"),
        ("uri", "postgresql://anna:hunter2@a:5432,b:5432/d"),
        ("uri", "postgresql://anna:hunter2@%2Ftmp/d"),
        ("uri", "postgresql://anna:hunter2@h:0/d"),
        ("uri", "postgresql://anna:hunter2@h:65536/d"),
        ("uri", "postgresql://anna:%ff@h/d"),
        ("uri", "postgresql://anna:hunter2@h/d?sslmode=hunter2"),
        ("host", "hunter2 hunter2"),
        ("port", "hunter2"),
        ("port", "0"),
        ("dbname", ""),
        ("username", "hunter2\0"),
    ] {
        let error = connect(&cloud_native_pg().with("pg-app", key, value)).unwrap_err();
        assert!(
            error.starts_with(&format!("key `{key}` of Secret `pg-app`: ")),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_uri_for_something_else_than_one_host_says_so() {
    for (uri, rule) in [
        (
            "postgresql://u@a,b/d",
            "names several hosts; name the one to write to",
        ),
        (
            "postgresql://u@%2Ftmp/d",
            "names a Unix socket; name a host",
        ),
    ] {
        let error = connect(&uri_only(uri)).unwrap_err();
        assert_eq!(error, format!("key `uri` of Secret `pg-app`: {rule}"));
    }
}

#[test]
fn an_unreadable_secret_keeps_its_cause() {
    struct Broken;
    impl Secrets for Broken {
        fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
            let source = Box::new(std::io::Error::other("permission denied"));
            Err(SecretError::Unreadable {
                secret: secret.to_owned(),
                key: key.to_owned(),
                source,
            })
        }
    }
    let error = minimal().spec.targets[0]
        .connection_settings(&Broken)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "key `uri` of Secret `pg-app` cannot be read"
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "permission denied"
    );
}

#[test]
fn passwords_and_keys_do_not_show_in_debug_output() {
    let settings = connect(&cloud_native_pg()).unwrap();
    let shown = format!("{settings:?}");
    assert!(
        shown.contains("***") && !shown.contains("s3cret"),
        "{shown}"
    );
}
