//! One HTTP question, for tests of an installation and for probes by command.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http_body_util::Empty;
use hyper::{Request, Uri, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks until the answer is a success.
///
/// # Errors
/// The last answer, when `patience` is over.
pub async fn probe(url: &str, patience: Duration) -> anyhow::Result<()> {
    let uri: Uri = url
        .parse()
        .with_context(|| format!("{url} is no address"))?;
    ensure!(
        uri.scheme_str() == Some("http") && uri.host().is_some(),
        "{url}: write http://host:port/path"
    );
    let begun = Instant::now();
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left.max(PAUSE), ask(&uri)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if begun.elapsed() >= patience => {
                return Err(error.context(url.to_owned()));
            }
            Err(_) => bail!("{url}: no answer within {} s", patience.as_secs()),
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn ask(uri: &Uri) -> anyhow::Result<()> {
    let host = uri.host().unwrap_or_default();
    let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(
        response.status().is_success(),
        "answered {}",
        response.status()
    );
    Ok(())
}
