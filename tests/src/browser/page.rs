//! One page: go somewhere, look, press keys, take a picture.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::wire::Wire;

/// How often a condition is looked at: a frame of the page.
const LOOK: Duration = Duration::from_millis(50);

/// How long a page may take to load.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Heard {
    bytes: u64,
    hosts: Vec<String>,
    errors: Vec<String>,
}

/// A page with cookies and storage of its own.
pub struct Page {
    wire: Arc<Wire>,
    session: String,
    heard: Arc<Mutex<Heard>>,
    loads: watch::Receiver<u64>,
}

impl Page {
    pub(super) async fn open(wire: Arc<Wire>) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        let context = wire
            .call(None, "Target.createBrowserContext", json!({}))
            .await?;
        let target =
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = wire.call(None, "Target.createTarget", target).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = wire.call(None, "Target.attachToTarget", attach).await?;
        let session = text(&attached["sessionId"])?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (load, loads) = watch::channel(0);
        let hears = Arc::clone(&heard);
        wire.listen(
            &session,
            Box::new(move |method, parameters| {
                if method == "Page.loadEventFired" {
                    load.send_modify(|count| *count += 1);
                } else {
                    hear(&mut hears.lock(), method, parameters);
                }
            }),
        );
        let page = Self {
            wire,
            session,
            heard,
            loads,
        };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        page.viewport(1280, 900, false).await?;
        Ok(page)
    }

    /// Goes to an address and waits until it has loaded.
    ///
    /// # Errors
    /// Nobody answers there, or loading takes too long.
    pub async fn goto(&self, url: &str) -> anyhow::Result<()> {
        let mut loads = self.loads.clone();
        loads.mark_unchanged();
        let gone = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = gone["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        tokio::time::timeout(LOAD_TIMEOUT, loads.changed())
            .await
            .with_context(|| format!("{url} did not load within {LOAD_TIMEOUT:?}"))??;
        Ok(())
    }

    /// The value of an expression; a promise is awaited.
    ///
    /// # Errors
    /// It throws; the message says what.
    pub async fn eval(&self, expression: &str) -> anyhow::Result<Value> {
        let question =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", question).await?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            let what = thrown["exception"]["description"].as_str();
            bail!("{expression}: {}", what.unwrap_or(&thrown.to_string()));
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true, and returns its value.
    ///
    /// # Errors
    /// It is not within `patience`; the message says what it was, and what the page shows.
    pub async fn wait_for(&self, expression: &str, patience: Duration) -> anyhow::Result<Value> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let found = self.eval(expression).await;
            let is_true = found.as_ref().is_ok_and(|value| match value {
                Value::Null => false,
                Value::Bool(is_true) => *is_true,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(_) | Value::Object(_) => true,
            });
            if is_true {
                return found;
            }
            if tokio::time::Instant::now() >= deadline {
                let text = self.eval("document.body.innerText").await;
                bail!(
                    "not true within {patience:?}: {expression} is {found:?}; errors {:?}; the page shows {}",
                    self.errors(),
                    text.unwrap_or_default()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Clicks the middle of the first element that a selector finds.
    ///
    /// # Errors
    /// There is none, or nothing of it can be seen.
    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let quoted = Value::from(selector);
        let at = self
            .eval(&format!(
                "(() => {{ const node = document.querySelector({quoted}); if (!node) return null; node.scrollIntoView({{ block: 'nearest' }}); \
                 const r = node.getBoundingClientRect(); return r.width && r.height ? [r.x + r.width / 2, r.y + r.height / 2] : null }})()"
            ))
            .await?;
        ensure!(at.is_array(), "nothing to click at {selector}");
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    /// Presses and releases a key, by its name in `KeyboardEvent.key`: `ArrowLeft`, `Enter`, `Tab`,
    /// `Escape`.
    ///
    /// # Errors
    /// Not a key of these.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "PageUp" => (33, ""),
            "PageDown" => (34, ""),
            "End" => (35, ""),
            "Home" => (36, ""),
            "ArrowLeft" => (37, ""),
            "ArrowUp" => (38, ""),
            "ArrowRight" => (39, ""),
            "ArrowDown" => (40, ""),
            other => bail!("{other} is no key that is known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Types into what has the focus.
    ///
    /// # Errors
    /// Chromium has died.
    pub async fn type_text(&self, text: &str) -> anyhow::Result<()> {
        self.call("Input.insertText", json!({ "text": text }))
            .await?;
        Ok(())
    }

    /// The size of the window, in CSS pixels.
    ///
    /// # Errors
    /// Chromium has died.
    pub async fn viewport(&self, width: u32, height: u32, mobile: bool) -> anyhow::Result<()> {
        let scale = if mobile { 2 } else { 1 };
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile, "screenWidth": width, "screenHeight": height });
        self.call("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        Ok(())
    }

    /// Whether the reader likes it dark, and wants nothing to move.
    ///
    /// # Errors
    /// Chromium has died.
    pub async fn dark(&self, dark: bool) -> anyhow::Result<()> {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await?;
        Ok(())
    }

    /// What axe-core finds against WCAG 2.2 AA, a line each; None where it cannot be fetched (no
    /// npm).
    ///
    /// # Errors
    /// Fetching or running it fails.
    pub async fn inaccessible(&self) -> anyhow::Result<Option<Vec<String>>> {
        let Some(axe) =
            tokio::task::spawn_blocking(clickstream_tools::artifacts::axe_core).await??
        else {
            return Ok(None);
        };
        self.eval(&format!("{axe}; true")).await?;
        let found = self
            .eval(
                "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }) \
                 .then((found) => found.violations.map((rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.html).slice(0, 3).join(' ')}`))",
            )
            .await?;
        Ok(Some(serde_json::from_value(found)?))
    }

    /// A picture of the whole page, as PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let how = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", how).await?;
        let data = answer["data"].as_str().context("no picture")?;
        std::fs::write(path, BASE64_STANDARD.decode(data)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Bytes that the page has received, headers included.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.heard.lock().bytes
    }

    /// Addresses that were asked, without repetitions.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.heard.lock().hosts.clone()
    }

    /// What went wrong in the page: exceptions, errors in its console, violations of its policy.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.heard.lock().errors.clone()
    }

    /// Forgets the errors so far.
    pub fn forget_errors(&self) {
        self.heard.lock().errors.clear();
    }

    async fn call(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.wire
            .call(Some(&self.session), method, parameters)
            .await
    }
}

fn hear(heard: &mut Heard, method: &str, parameters: &Value) {
    let bytes = |value: &Value| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sizes of answers, which the protocol writes as numbers with a point"
        )]
        let bytes = value.as_f64().unwrap_or_default().max(0.0) as u64;
        bytes
    };
    match method {
        "Network.requestWillBeSent" => {
            let url = parameters["request"]["url"].as_str().unwrap_or_default();
            let host: String = url.split('/').take(3).collect::<Vec<_>>().join("/");
            if !heard.hosts.contains(&host) {
                heard.hosts.push(host);
            }
        }
        "Network.responseReceived" => {
            heard.bytes += bytes(&parameters["response"]["encodedDataLength"]);
        }
        "Network.dataReceived" => heard.bytes += bytes(&parameters["dataLength"]),
        "Runtime.exceptionThrown" => {
            let details = &parameters["exceptionDetails"];
            let text = details["exception"]["description"].as_str();
            heard
                .errors
                .push(text.unwrap_or(&details.to_string()).to_owned());
        }
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            heard.errors.push(parameters["args"].to_string());
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            heard.errors.push(format!(
                "{} {}",
                parameters["entry"]["text"].as_str().unwrap_or_default(),
                parameters["entry"]["url"].as_str().unwrap_or_default()
            ));
        }
        _ => {}
    }
}
