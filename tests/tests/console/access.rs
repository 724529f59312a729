//! Who may look, and what can be asked.

use std::{fs, process::Command};

use anyhow::Context as _;
use clickstream_testbed::{Process, browser::Browser, free_port, server_dir};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stage::{PATIENCE, Stage, program, shows, visit};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Status and head of the answer to a request as bare as it can be made.
async fn ask(port: u16, method: &str, path: &str, headers: &str) -> anyhow::Result<(u16, String)> {
    let (_, status, head) = begin(port, method, path, headers).await?;
    Ok((status, head))
}

/// The same with the connection, on which more may come.
async fn begin(
    port: u16,
    method: &str,
    path: &str,
    headers: &str,
) -> anyhow::Result<(TcpStream, u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // streams do not end
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    Ok((stream, status, answer))
}

#[tokio::test]
async fn beyond_loopback_the_token_is_needed_and_every_way_to_give_it_works() -> anyhow::Result<()>
{
    let stage = Stage::new().await?;
    let port = free_port()?;
    let file = server_dir("token")?.join("token");
    fs::write(&file, format!("{TOKEN}\n"))?;
    let listen = format!("0.0.0.0:{port}");
    let token_file = file.display().to_string();
    let args = ["--listen", &listen, "--token-file", &token_file];
    let _console = stage
        .console_with(&args, stage.stack.postgres.port())
        .await?;
    let browser = Browser::start().await?;
    let page = browser.page().await?;
    let url = format!("http://127.0.0.1:{port}/");
    visit(&page, &url).await?;

    // the form: a wrong token, then the right one
    shows(&page, "label", "Token").await?;
    page.type_text("not-the-token").await?;
    page.press("Enter").await?;
    shows(&page, "#message", "This is not the token.").await?;
    page.type_text(TOKEN).await?;
    page.click("button").await?;
    page.wait_for(
        "document.querySelector('#state')?.dataset.state === 'live'",
        PATIENCE,
    )
    .await?;
    assert_eq!(
        page.eval("document.cookie").await?,
        "",
        "scripts cannot read it"
    );
    page.wait_for("!document.querySelector('#logout').hidden", PATIENCE)
        .await?;

    // the link, in a browser that knows nothing yet
    let other = browser.page().await?;
    other.goto(&format!("{url}?token={TOKEN}")).await?;
    other
        .wait_for(
            "document.querySelector('#state')?.dataset.state === 'live'",
            PATIENCE,
        )
        .await?;
    assert_eq!(other.eval("location.href").await?, Value::from(url));

    let host = "host: console.example\r\n";
    let bearer = format!("{host}authorization: Bearer {TOKEN}\r\n");
    for path in [
        "/",
        "/events",
        "/api/minute?start=0",
        "/login",
        "/?token=wrong",
    ] {
        assert_eq!(ask(port, "GET", path, host).await?.0, 401, "{path}");
    }
    for path in ["/", "/events", "/api/minute?start=0"] {
        assert_eq!(ask(port, "GET", path, &bearer).await?.0, 200, "{path}");
        assert_eq!(ask(port, "HEAD", path, &bearer).await?.0, 200, "{path}");
    }
    assert_eq!(ask(port, "GET", "/login", &bearer).await?.0, 204);

    // who logs out is out, and nobody else
    page.click("#logout").await?;
    shows(&page, "label", "Token").await?;
    let live = "document.querySelector('#state')?.dataset.state";
    assert_eq!(other.eval(live).await?, "live");

    // a Secret that is changed: the old token, and who came by it, are out at once
    let next = TOKEN.replace('0', "1");
    fs::write(&file, &next)?;
    shows(&other, "label", "Token").await?;
    assert_eq!(ask(port, "GET", "/", &bearer).await?.0, 401);
    let bearer = format!("{host}authorization: Bearer {next}\r\n");
    assert_eq!(ask(port, "GET", "/", &bearer).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_connection_secret_that_changes_is_followed_while_the_page_is_open() -> anyhow::Result<()>
{
    let stage = Stage::new().await?;
    let secret = server_dir("secret")?;
    let write = |key: &str, value: &str| fs::write(secret.join(key), value);
    write("host", "127.0.0.1")?;
    write("port", &stage.stack.postgres.port().to_string())?;
    write("dbname", &stage.stack.database)?;
    write("username", "nobody_here")?;
    let port = free_port()?;
    let console = Process::spawn(
        Command::new(program().await?)
            .args(["run", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--database-secret")
            .arg(&secret),
        "console",
    )?;
    let browser = Browser::start().await?;
    let page = browser.page().await?;
    crate::stage::visit(&page, &format!("http://127.0.0.1:{port}/")).await?;
    shows(&page, "#banner", "nobody_here").await?;

    write("username", &stage.reader)?;
    let live = "document.querySelector('#state').dataset.state === 'live'";
    page.wait_for(live, PATIENCE)
        .await
        .map_err(|error| error.context(console.log_tail()))?;

    // a session that works ends as well: the next password may be of another role
    let successor = format!("{}_2", stage.reader);
    let admin = stage.stack.postgres.connect("postgres").await?;
    admin
        .batch_execute(&format!(
            "create role {successor} login in role {}",
            stage.reader
        ))
        .await?;
    write("username", &successor)?;
    let sessions = format!(
        "select count(*) from pg_stat_activity where usename = '{successor}' and application_name = 'clickstream-console'"
    );
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stage.count(&sessions).await? == 0 {
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "{}",
            console.log_tail()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    page.wait_for(live, PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_but_reading_can_be_asked_and_other_names_are_refused_on_loopback()
-> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let _page = crate::stage::open(&browser, port).await?;
    let host = "host: localhost\r\n";
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/events", "/api/minute?start=0"] {
            assert_eq!(
                ask(port, method, path, host).await?.0,
                405,
                "{method} {path}"
            );
        }
    }
    for path in [
        "/api/minute",
        "/api/minute?start=-1",
        "/api/minute?start=1e9",
        "/api/minute?start=99999999999",
    ] {
        assert_eq!(ask(port, "GET", path, host).await?.0, 400, "{path}");
    }
    assert_eq!(ask(port, "GET", "/../etc/passwd", host).await?.0, 404);
    let (status, head) = ask(port, "GET", "/", host).await?;
    assert_eq!(status, 200);
    for header in [
        "default-src 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "frame-ancestors 'none'",
    ] {
        assert!(head.contains(header), "{header} is missing: {head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    // somebody else's page that points its own name at this machine
    for path in ["/", "/events", "/api/minute?start=0"] {
        assert_eq!(
            ask(port, "GET", path, "host: evil.example\r\n").await?.0,
            421,
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_token_the_console_does_not_start_beyond_loopback() -> anyhow::Result<()> {
    let program = program().await?;
    let run = move |args: &[&str]| {
        Command::new(&program)
            .args(["run", "--database", "postgresql://nobody@127.0.0.1/none"])
            .args(args)
            .output()
    };
    for (args, wanted) in [
        (vec!["--listen", "0.0.0.0:0"], "a token is required"),
        (
            vec!["--listen", "0.0.0.0:0", "--token-file", "/nonexistent"],
            "--token-file /nonexistent",
        ),
        (
            vec!["--processors", "localhost:1"],
            "write http://host:port",
        ),
    ] {
        let output = run(&args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(wanted),
            "{args:?}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_not_read_the_dead_letters_sees_the_rest() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage
        .stack
        .client
        .batch_execute(&format!(
            "revoke select on clickstream_dead_letters from {}",
            stage.reader
        ))
        .await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = crate::stage::open(&browser, port).await?;
    shows(&page, "#letters", "Not shown: the role may not read this").await?;
    shows(&page, "#flow", "Nothing has been read yet.").await?;
    Ok(())
}

#[tokio::test]
async fn pages_beyond_the_limit_are_told_so_and_a_page_that_leaves_gives_its_place_back()
-> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    // of the sixty-four places one is a page's, and none of the others ever reads what it is told
    let page = crate::stage::open(&browser, port).await?;
    let host = "host: localhost\r\n";
    let mut mute = Vec::new();
    for _ in 0..63 {
        let (stream, status, _) = begin(port, "GET", "/events", host).await?;
        assert_eq!(status, 200);
        mute.push(stream);
    }
    assert_eq!(ask(port, "GET", "/events", host).await?.0, 503);
    // the page is told on, whatever the others do
    let pulse = "document.querySelector('#state').dataset.state === 'live'";
    page.eval("new Promise((done) => setTimeout(done, 9000))")
        .await?;
    page.wait_for(pulse, PATIENCE).await?;
    mute.pop();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(port, "GET", "/events", host).await?.0 != 200 {
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "the place stays taken"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}
