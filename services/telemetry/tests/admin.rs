//! The admin server over real sockets, spoken to byte by byte.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clickstream_telemetry::admin::{self, AdminServer, CONNECTION_DEADLINE, MAX_CONNECTIONS};
use clickstream_telemetry::{Health, Verdict, metrics};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Far beyond what loopback needs, well under the server's own deadlines.
const PROMPT: Duration = Duration::from_secs(3);

struct Service {
    live: Mutex<Verdict>,
    ready: Mutex<Verdict>,
}

impl Health for Service {
    fn live(&self) -> Verdict {
        self.live.lock().unwrap().clone()
    }

    fn ready(&self) -> Verdict {
        self.ready.lock().unwrap().clone()
    }

    fn status(&self) -> Value {
        json!({ "partitions": [{ "topic": "clickstream", "partition": 0, "next_offset": 7 }] })
    }
}

struct Running {
    server: AdminServer,
    service: Arc<Service>,
    shutdown: CancellationToken,
}

impl Running {
    async fn start() -> Self {
        Self::start_on(loopback(0)).await
    }

    async fn start_on(addr: SocketAddr) -> Self {
        let service = Arc::new(Service {
            live: Mutex::new(Verdict::Ok),
            ready: Mutex::new(Verdict::Ok),
        });
        let shutdown = CancellationToken::new();
        let server = admin::serve(
            addr,
            metrics::registry("test").unwrap(),
            Arc::clone(&service) as Arc<dyn Health>,
            shutdown.clone(),
        )
        .await
        .unwrap();
        Self {
            server,
            service,
            shutdown,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.local_addr()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = self.connect().await;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads until the server closes, which it does after every answer.
    async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        tokio::time::timeout(PROMPT, stream.read_to_end(&mut bytes))
            .await
            .expect("an answer and the end of the connection")
            .unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a complete header");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn a_pod_is_asked_by_whichever_family_its_cluster_has() {
    let running = Running::start_on("[::]:0".parse().unwrap()).await;
    let port = running.server.local_addr().port();
    let has_ipv6 = TcpListener::bind("[::1]:0").await.is_ok();
    let addresses = ["127.0.0.1", "::1"];
    for address in &addresses[..=usize::from(has_ipv6)] {
        let mut stream = TcpStream::connect((*address, port)).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PROMPT, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{address}: {answer}");
    }
}

#[tokio::test]
async fn a_healthy_service_answers_both_probes_with_200() {
    let running = Running::start().await;
    for path in ["/livez", "/readyz"] {
        let answer = running.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.json(), json!({ "status": "ok" }));
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_names_what_is_pending_and_stays_live() {
    let running = Running::start().await;
    *running.service.ready.lock().unwrap() =
        Verdict::from_pending(["postgres: connecting", "kafka: no assignment"]);
    let answer = running.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "status": "failing", "pending": "postgres: connecting; kafka: no assignment" })
    );
    assert_eq!(running.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_service_that_cannot_go_on_says_why() {
    let running = Running::start().await;
    *running.service.live.lock().unwrap() = Verdict::Failing("poll thread ended".to_owned());
    let answer = running.get("/livez").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "poll thread ended");
}

#[tokio::test]
async fn status_is_the_services_own_json() {
    let running = Running::start().await;
    let answer = running.get("/status").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: application/json"),
        "{}",
        answer.head
    );
    assert_eq!(answer.json(), running.service.status());
}

#[tokio::test]
async fn metrics_are_in_the_text_format_that_prometheus_reads() {
    let running = Running::start().await;
    let answer = running.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    assert!(
        answer
            .body
            .contains("# TYPE clickstream_build_info gauge\n"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(r#"service="test""#), "{}", answer.body);
    #[cfg(target_os = "linux")]
    assert!(
        answer.body.contains("\nprocess_resident_memory_bytes "),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let running = Running::start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = running.ask(method, "/status").await;
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        assert!(answer.head.contains("allow: get"), "{}", answer.head);
    }
    assert_eq!(running.get("/").await.status, 404);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_server_goes_on() {
    let running = Running::start().await;
    let mut stream = running.connect().await;
    stream
        .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x0d, 0x0a, 0x0d, 0x0a])
        .await
        .unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 400);
    let mut stream = running.connect().await;
    let long = format!(
        "GET /livez HTTP/1.1\r\nx: {}\r\n\r\n",
        "a".repeat(64 * 1024)
    );
    // the server may close before all of it is written
    let _ = stream.write_all(long.as_bytes()).await;
    let mut head = [0; 12];
    let read = tokio::time::timeout(PROMPT, stream.read_exact(&mut head))
        .await
        .unwrap();
    assert!(read.is_err() || &head == b"HTTP/1.1 431", "{head:?}");
    assert_eq!(running.get("/livez").await.status, 200);
}

/// How long a kubelet waits for a probe unless it is told otherwise.
const KUBELET: Duration = Duration::from_secs(1);

/// Whether the other side has closed it; what it said before is passed over.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    tokio::time::timeout(Duration::from_millis(5), read)
        .await
        .is_ok()
}

#[tokio::test]
async fn probes_are_answered_however_many_silent_slow_and_unread_connections_there_are() {
    let running = Running::start().await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = running.connect().await;
        match number % 4 {
            // a header that never ends
            0 => stream.write_all(b"GET /livez HTT").await.unwrap(),
            // an answer that nobody reads
            1 => stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")
                .await
                .unwrap(),
            _ => {}
        }
        silent.push(stream);
        if number % 20 == 19 {
            for path in ["/livez", "/readyz"] {
                let begun = Instant::now();
                let answer = running.get(path).await;
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                assert!(
                    begun.elapsed() < KUBELET,
                    "{path}, {number}: {:?}",
                    begun.elapsed()
                );
            }
        }
    }
    let mut open = 0;
    for stream in &mut silent {
        open += usize::from(!is_closed(stream).await);
    }
    assert!(open <= MAX_CONNECTIONS, "{open} are open");
}

#[tokio::test]
async fn a_client_that_dribbles_its_header_is_cut_off() {
    let running = Running::start().await;
    let (mut reading, mut writing) = running.connect().await.into_split();
    let dribble = tokio::spawn(async move {
        while writing.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(CONNECTION_DEADLINE, reading.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "still open after {CONNECTION_DEADLINE:?}");
    dribble.abort();
}

#[tokio::test]
async fn cancelling_the_token_stops_the_server_and_frees_the_port() {
    let running = Running::start().await;
    let addr = running.server.local_addr();
    let idle = running.connect().await;
    running.shutdown.cancel();
    tokio::time::timeout(CONNECTION_DEADLINE + PROMPT, running.server.stopped())
        .await
        .expect("the server stops");
    assert!(TcpStream::connect(addr).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let running = Running::start().await;
    let error = admin::serve(
        running.server.local_addr(),
        prometheus::Registry::new(),
        Arc::clone(&running.service) as Arc<dyn Health>,
        CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&running.server.local_addr().to_string()),
        "{error}"
    );
}
