//! The admin server behind a certificate and a token, over real sockets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clickstream_telemetry::admin::{
    self, Access, AdminServer, CONNECTION_DEADLINE, Decision, Guard, HEADER_DEADLINE, Judge,
    Judgement, TOKEN_HEADER,
};
use clickstream_telemetry::client::{
    Authorities, BESIDE, GetError, HttpClient, Limits, TrustFiles, Uri,
};
use clickstream_telemetry::tls::{CERTIFICATE, KEY, Tls};
use clickstream_telemetry::{Health, Verdict, metrics};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What every certificate here is valid for: pods are asked by address, which none is.
const NAME: &str = "clickstream-metrics.shop.svc";
const TOKEN: &str = "a-token-of-thirty-two-characters";
const LIMITS: Limits = Limits {
    patience: Duration::from_secs(5),
    largest: 1 << 20,
};

struct Service;

impl Health for Service {
    fn live(&self) -> Verdict {
        Verdict::Ok
    }

    fn ready(&self) -> Verdict {
        Verdict::Ok
    }

    fn status(&self) -> Value {
        json!({ "state": "running" })
    }
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("clickstream-guarded-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn openssl(&self, args: &str) {
        let output = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(&self.0)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args}: {said}");
    }

    /// Writes an authority of this name, and a certificate of it that is valid for [`NAME`].
    fn certify(&self, authority: &str) {
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.openssl(&format!(
            "req -x509 {new} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
        ));
        fs::write(
            self.path("names"),
            format!("subjectAltName=DNS:{NAME},DNS:localhost\n"),
        )
        .unwrap();
        self.openssl(&format!(
            "req {new} -subj /CN=pods -keyout new.key -out new.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in new.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2 -extfile names -out new.crt"
        ));
        // renamed into place, as a Secret's volume does
        for (from, to) in [("new.key", KEY), ("new.crt", CERTIFICATE)] {
            fs::rename(self.path(from), self.path(to)).unwrap();
        }
    }

    fn trusting(&self, authority: &str) -> HttpClient {
        let authority = fs::read(self.path(authority)).unwrap();
        HttpClient::trusting(&authority, Some(NAME)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running {
    server: AdminServer,
    stop: CancellationToken,
}

impl Running {
    async fn start(guard: Guard) -> Self {
        let stop = CancellationToken::new();
        let registry = metrics::registry("test").unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let server = admin::serve_guarded(local, guard, registry, Arc::new(Service), stop.clone())
            .await
            .unwrap();
        Self { server, stop }
    }

    async fn by_tls(folder: &Path, access: Access) -> Self {
        let tls = Some(Tls::following(folder).unwrap());
        Self::start(Guard { tls, access }).await
    }

    fn at(&self, path: &str) -> Uri {
        let url = format!("https://{}{path}", self.server.local_addr());
        url.parse().unwrap()
    }

    async fn code(&self, client: &HttpClient, path: &str) -> u16 {
        client.ask(&self.at(path)).await.unwrap().status().as_u16()
    }

    async fn why(&self, client: &HttpClient, path: &str) -> String {
        let answer = client.ask(&self.at(path)).await.unwrap();
        String::from_utf8(answer.body(1 << 10).await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn with_a_certificate_everything_is_asked_by_tls_and_only_who_trusts_its_authority_reads_on()
{
    let folder = Folder::new();
    folder.certify("ca");
    folder.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other -keyout other.key -out other.crt");
    let running = Running::by_tls(&folder.0, Access::anyone()).await;
    let client = folder.trusting("ca.crt");
    for path in ["/livez", "/readyz", "/status", "/metrics"] {
        assert_eq!(running.code(&client, path).await, 200, "{path}");
    }
    let stranger = folder.trusting("other.crt");
    let error = stranger
        .get(&running.at("/status"), LIMITS)
        .await
        .unwrap_err();
    assert!(matches!(error, GetError::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let ca = fs::read(folder.path("ca.crt")).unwrap();
    let other_name = HttpClient::trusting(&ca, Some("other.shop.svc")).unwrap();
    let by_address = HttpClient::trusting(&ca, None).unwrap();
    for client in [other_name, by_address, HttpClient::new()] {
        let error = client
            .get(&running.at("/status"), LIMITS)
            .await
            .unwrap_err();
        assert!(matches!(error, GetError::Connect(_)), "{error:?}");
    }
    // in the clear there is no answer at all
    let mut plain = TcpStream::connect(running.server.local_addr())
        .await
        .unwrap();
    plain
        .write_all(b"GET /status HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(LIMITS.patience, plain.read_to_end(&mut said))
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
}

#[tokio::test]
async fn probes_need_no_token_and_everything_else_does() {
    let folder = Folder::new();
    folder.certify("ca");
    fs::write(folder.path("tokens"), format!("{TOKEN}\n")).unwrap();
    let access = Access::tokens(folder.path("tokens")).unwrap();
    let running = Running::by_tls(&folder.0, access).await;
    let client = folder.trusting("ca.crt");
    let wrong = client.clone().with_token(&TOKEN.replace('a', "b")).unwrap();
    let right = client.clone().with_token(TOKEN).unwrap();
    for path in ["/livez", "/readyz"] {
        assert_eq!(running.code(&client, path).await, 200, "{path}");
    }
    for path in ["/status", "/metrics"] {
        assert_eq!(running.code(&client, path).await, 401, "{path}");
        assert_eq!(running.code(&wrong, path).await, 401, "{path}");
        assert_eq!(running.code(&right, path).await, 200, "{path}");
    }
    let why = running.why(&client, "/metrics").await;
    assert!(why.contains("a token is needed"), "{why}");
    let why = running.why(&wrong, "/metrics").await;
    assert!(
        why.contains("not known") && !why.contains("token-of"),
        "{why}"
    );
}

#[tokio::test]
async fn a_renewed_certificate_and_a_renewed_token_are_taken_without_a_restart() {
    let folder = Folder::new();
    folder.certify("ca");
    fs::write(folder.path("tokens"), TOKEN).unwrap();
    let access = Access::tokens(folder.path("tokens")).unwrap();
    let running = Running::by_tls(&folder.0, access).await;
    let trust = TrustFiles::following(
        Some(folder.path("trusted.crt")),
        Some(NAME.to_owned()),
        Some(folder.path("shown")),
    );
    assert!(trust.is_err(), "there is no such file yet");
    fs::copy(folder.path("ca.crt"), folder.path("trusted.crt")).unwrap();
    fs::write(folder.path("shown"), format!("{TOKEN}\nlater\n")).unwrap();
    let trust = TrustFiles::following(
        Some(folder.path("trusted.crt")),
        Some(NAME.to_owned()),
        Some(folder.path("shown")),
    )
    .unwrap();
    assert_eq!(running.code(&trust.client(), "/status").await, 200);

    // what is no certificate replaces none
    fs::write(folder.path(CERTIFICATE), "half a certif").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(running.code(&trust.client(), "/status").await, 200);

    // another authority, and two tokens for a while
    folder.certify("next");
    let next = TOKEN.replace("thirty-two", "forty-four");
    fs::write(folder.path("tokens"), format!("{next}\n{TOKEN}\n")).unwrap();
    let client = folder.trusting("next.crt").with_token(&next).unwrap();
    let before = folder.trusting("next.crt").with_token(TOKEN).unwrap();
    let begun = Instant::now();
    while client.get(&running.at("/status"), LIMITS).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.code(&before, "/status").await, 200);
    let old = trust.client().get(&running.at("/status"), LIMITS).await;
    assert!(matches!(old, Err(GetError::Connect(_))), "{old:?}");

    // who asks follows too
    fs::copy(folder.path("next.crt"), folder.path("trusted.crt")).unwrap();
    fs::write(folder.path("shown"), &next).unwrap();
    fs::write(folder.path("tokens"), &next).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(running.code(&trust.client(), "/status").await, 200);
    assert_eq!(running.code(&before, "/status").await, 401);
}

#[tokio::test]
async fn who_asks_trusts_the_authority_of_before_until_its_certificates_have_gone() {
    let folder = Folder::new();
    folder.certify("ca");
    let running = Running::by_tls(&folder.0, Access::anyone()).await;
    let [ca, next] = ["ca.crt", "trusted.crt"].map(|name| folder.path(name));
    fs::copy(&ca, &next).unwrap();
    let trust = TrustFiles::following(Some(next.clone()), Some(NAME.to_owned()), None).unwrap();
    assert_eq!(running.code(&trust.client(), "/status").await, 200);
    let renewed = Folder::new();
    renewed.certify("next");
    let [ca, next] = [ca, renewed.path("next.crt")].map(|file| fs::read(file).unwrap());
    fs::write(folder.path("trusted.crt"), &next).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // the server goes on with what it has, and others already have the new one
    let server = Running::by_tls(&renewed.0, Access::anyone()).await;
    for server in [&running, &server] {
        assert_eq!(server.code(&trust.client(), "/status").await, 200);
    }

    let start = Instant::now();
    let mut authorities = Authorities::default();
    let mut of = |pem: &[u8], after: Duration| {
        let client = authorities.client(pem, Some(NAME), start + after);
        client.map(|client| (client, authorities.have_ended(start + after + BESIDE)))
    };
    let trusts = async |client: &HttpClient, server: &Running| {
        client.get(&server.at("/status"), LIMITS).await.is_ok()
    };
    let (first, ends) = of(&ca, Duration::ZERO).unwrap();
    assert!(trusts(&first, &running).await && !trusts(&first, &server).await && !ends);
    // what is no authority takes the place of none, and adds none
    assert!(of(b"half a certif", Duration::ZERO).is_err());
    let (both, ends) = of(&next, Duration::from_secs(9)).unwrap();
    assert!(trusts(&both, &running).await && trusts(&both, &server).await && ends);
    let last = Duration::from_secs(8) + BESIDE;
    let (both, _) = of(&next, last).unwrap();
    assert!(trusts(&both, &running).await && trusts(&both, &server).await);
    let (after, ends) = of(&next, last + Duration::from_secs(1)).unwrap();
    assert!(!trusts(&after, &running).await && trusts(&after, &server).await && !ends);
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_gives_its_place_back_and_a_stop_waits_for_nobody() {
    let folder = Folder::new();
    folder.certify("ca");
    let running = Running::by_tls(&folder.0, Access::anyone()).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..admin::MAX_CONNECTIONS {
        silent.push(
            TcpStream::connect(running.server.local_addr())
                .await
                .unwrap(),
        );
    }
    // every place is taken, and whoever has not finished a handshake makes room
    let client = folder.trusting("ca.crt");
    assert_eq!(running.code(&client, "/livez").await, 200);
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    for mut stream in silent {
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        let _ = tokio::time::timeout(CONNECTION_DEADLINE, closed)
            .await
            .unwrap();
    }
    // the others had the time of a handshake
    let waited = begun.elapsed();
    let late = HEADER_DEADLINE + Duration::from_secs(3);
    assert!(
        waited >= HEADER_DEADLINE - Duration::from_millis(500) && waited < late,
        "{waited:?}"
    );
    let _silent = TcpStream::connect(running.server.local_addr())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.cancel();
    tokio::time::timeout(Duration::from_secs(2), running.server.stopped())
        .await
        .expect("nobody has asked anything");
}

/// Knows `good` and `other`, of whom the latter may read nothing; counts, and can fall silent.
#[derive(Clone, Default)]
struct Told {
    asked: Arc<Mutex<Vec<String>>>,
    silent: Arc<AtomicBool>,
}

impl Judge for Told {
    fn judge<'j>(
        &'j self,
        token: &'j str,
        path: &'j str,
    ) -> Pin<Box<dyn Future<Output = Judgement> + Send + 'j>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(format!("{token} {path}"));
            if self.silent.load(Ordering::Relaxed) {
                return Err("gone".into());
            }
            Ok(match token {
                "good" => Decision::Allowed,
                "other" => Decision::Forbidden {
                    who: "system:serviceaccount:shop:default".to_owned(),
                },
                _ => Decision::Unknown,
            })
        })
    }
}

#[tokio::test]
async fn a_judge_is_asked_once_for_a_while_and_its_refusals_are_told_apart() {
    let folder = Folder::new();
    folder.certify("ca");
    let judge = Told::default();
    let running = Running::by_tls(&folder.0, Access::judged_by(judge.clone())).await;
    let client = folder.trusting("ca.crt");
    let with = |token: &str| client.clone().with_token(token).unwrap();
    for _ in 0..3 {
        assert_eq!(running.code(&with("good"), "/metrics").await, 200);
        assert_eq!(running.code(&with("bad"), "/metrics").await, 401);
        assert_eq!(running.code(&with("other"), "/metrics").await, 403);
        assert_eq!(running.code(&client, "/metrics").await, 401);
    }
    let why = running.why(&with("other"), "/metrics").await;
    assert_eq!(
        why,
        "system:serviceaccount:shop:default may not get /metrics\n"
    );
    let asked = judge.asked.lock().unwrap().clone();
    assert_eq!(asked, ["good /metrics", "bad /metrics", "other /metrics"]);

    // a flood of what nobody knows: the judge hears of a few, and who is known goes on
    let mut codes = Vec::new();
    for number in 0..60 {
        codes.push(
            running
                .code(&with(&format!("bad{number}")), "/status")
                .await,
        );
    }
    assert!(codes.contains(&401) && codes.contains(&429), "{codes:?}");
    let asked = judge.asked.lock().unwrap().len();
    assert!(asked < 40, "asked {asked} times");
    assert_eq!(running.code(&with("good"), "/metrics").await, 200);
}

#[tokio::test]
async fn a_judge_that_is_gone_lets_nobody_new_in_and_says_so() {
    let folder = Folder::new();
    folder.certify("ca");
    let judge = Told::default();
    let running = Running::by_tls(&folder.0, Access::judged_by(judge.clone())).await;
    let good = folder.trusting("ca.crt").with_token("good").unwrap();
    judge.silent.store(true, Ordering::Relaxed);
    assert_eq!(running.code(&good, "/metrics").await, 503);
    let why = running.why(&good, "/metrics").await;
    assert!(why.contains("kubernetes api does not answer"), "{why}");
    judge.silent.store(false, Ordering::Relaxed);
    assert_eq!(running.code(&good, "/metrics").await, 200);
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_that_the_api_servers_proxy_hands_on() {
    let folder = Folder::new();
    fs::write(folder.path("tokens"), TOKEN).unwrap();
    let access = Access::tokens(folder.path("tokens")).unwrap();
    let running = Running::start(Guard { tls: None, access }).await;
    for (token, code) in [(TOKEN, "200"), ("another-token-of-some-length", "401")] {
        let mut stream = TcpStream::connect(running.server.local_addr())
            .await
            .unwrap();
        let request =
            format!("GET /status HTTP/1.1\r\nhost: test\r\n{TOKEN_HEADER}: {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
}

#[test]
fn every_file_of_a_mounted_secret_holds_tokens() {
    let folder = Folder::new();
    let secret = folder.path("secret");
    // as the kubelet lays them out
    fs::create_dir_all(secret.join("..1")).unwrap();
    std::os::unix::fs::symlink("..1", secret.join("..data")).unwrap();
    for (key, token) in [
        ("token", TOKEN),
        ("previous", "the-token-of-before-it-was-renewed"),
    ] {
        fs::write(secret.join("..1").join(key), token).unwrap();
        std::os::unix::fs::symlink(format!("..data/{key}"), secret.join(key)).unwrap();
    }
    assert!(Access::tokens(secret.clone()).is_ok());
    fs::write(secret.join("..1/previous"), "short").unwrap();
    let error = Access::tokens(secret.clone()).err().unwrap().to_string();
    assert!(error.contains("previous: line 1"), "{error}");
    for key in ["token", "previous"] {
        fs::remove_file(secret.join(key)).unwrap();
    }
    let error = Access::tokens(secret).err().unwrap().to_string();
    assert!(error.contains("holds 0 tokens"), "{error}");
}

#[tokio::test]
async fn a_token_is_never_shown_in_the_clear() {
    let folder = Folder::new();
    fs::write(folder.path("tokens"), TOKEN).unwrap();
    let access = Access::tokens(folder.path("tokens")).unwrap();
    let running = Running::start(Guard { tls: None, access }).await;
    let client = HttpClient::new().with_token(TOKEN).unwrap();
    let url: Uri = format!("http://{}/status", running.server.local_addr())
        .parse()
        .unwrap();
    let answer = client.ask(&url).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(!format!("{client:?}").contains(TOKEN), "printed");
}

#[test]
fn what_cannot_be_used_is_named_at_the_start() {
    let folder = Folder::new();
    folder.certify("ca");
    let told = |error: &dyn std::error::Error| {
        let source = error.source().map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    fs::copy(folder.path("ca.key"), folder.path(KEY)).unwrap();
    let mismatch = told(&Tls::following(&folder.0).unwrap_err());
    assert!(mismatch.contains("cannot be used"), "{mismatch}");
    fs::write(folder.path(KEY), "no key").unwrap();
    let no_key = told(&Tls::following(&folder.0).unwrap_err());
    assert!(
        no_key.contains("tls.key") && no_key.contains("private key"),
        "{no_key}"
    );
    fs::remove_file(folder.path(CERTIFICATE)).unwrap();
    let missing = told(&Tls::following(&folder.0).unwrap_err());
    assert!(missing.contains("tls.crt"), "{missing}");
    for text in [
        "",
        "short",
        "a token of several words it is",
        &"t".repeat(9_000),
    ] {
        fs::write(folder.path("tokens"), text).unwrap();
        let error = Access::tokens(folder.path("tokens")).err().unwrap();
        let error = told(&error);
        assert!(error.contains("tokens:"), "{error}");
        assert!(
            text.is_empty() || !error.contains(text),
            "a token is told: {error}"
        );
    }
}
