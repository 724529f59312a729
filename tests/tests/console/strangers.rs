//! Whatever strangers write into the tables stays text.

use clickstream_testbed::{browser::Browser, free_port};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, is_clean, open, shows, text};

/// What a page must not take for anything but text.
const HOSTILE: [&str; 5] = [
    "https://shop.example/<img src=x onerror=\"window.pwned=1\">",
    "javascript:window.pwned=2//\"'><script>window.pwned=3</script>",
    "https://shop.example/</span><svg onload=window.pwned=4>",
    "data:text/html,<script>window.pwned=5</script>\u{202e}gpj.exe",
    "${window.pwned=6}{{constructor.constructor('window.pwned=7')()}}",
];

fn events() -> Vec<(String, Option<Vec<u8>>)> {
    let mut records = Vec::new();
    for round in 0..40 {
        for (at, url) in HOSTILE.iter().enumerate() {
            let event = json!({
                "event_id": uuid(round * 10 + at),
                "user_id": "<b onmouseover=window.pwned=8>anna</b>",
                "event_ts": now_millis(),
                "url": url,
            });
            records.push((format!("{at}"), Some(event.to_string().into_bytes())));
        }
    }
    let refused = json!({ "event_id": ["<script>window.pwned=9</script>"] });
    records.push(("x".to_owned(), Some(refused.to_string().into_bytes())));
    records.push((
        "x".to_owned(),
        Some(b"<script>window.pwned=10</script>".to_vec()),
    ));
    records
}

fn uuid(number: usize) -> String {
    format!("018e2f00-0000-7000-8000-{number:012x}")
}

fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default()
}

#[tokio::test]
async fn hostile_pages_and_records_are_shown_as_text() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.stack.send(events()).await?;
    stage.stack.drained().await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    for url in HOSTILE {
        shows(&page, "#pages", url).await?;
    }
    page.click("#chart .bar .area").await?;
    page.wait_for("document.querySelector('#explain details')", PATIENCE)
        .await?;
    page.eval("document.querySelector('#explain details').open = true")
        .await?;
    shows(&page, "#letters", "invalid_field").await?;
    let letters = text(&page, "#letters").await?;
    assert!(
        !letters.contains("script"),
        "content of a record: {letters}"
    );
    let everything = text(&page, "body").await?;
    assert!(
        !everything.contains("anna"),
        "who clicked is nobody's business"
    );
    assert_eq!(page.eval("window.pwned").await?, Value::Null);
    let strange = "document.querySelectorAll('main script, main img, main a, main [onerror], main [onload], main [onmouseover]').length";
    assert_eq!(page.eval(strange).await?, 0);
    is_clean(&page, port)?;
    Ok(())
}
