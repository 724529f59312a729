//! Adminer as a person uses it: the login form, filled in as docs/quickstart.md says, in a real
//! browser.

use anyhow::ensure;
use clickstream_testbed::{browser::Browser, workspace_root};

use crate::stack::{PATIENCE, Stack, get};

/// What the quickstart says to fill in.
const FILL_IN: &str = "(() => {
    const login = {
        'auth[driver]': 'pgsql', 'auth[server]': 'postgres', 'auth[username]': 'postgres',
        'auth[password]': 'postgres', 'auth[db]': 'analytics',
    };
    for (const [name, value] of Object.entries(login)) {
        document.querySelector(`[name=\"${name}\"]`).value = value;
    }
    document.querySelector('input[type=submit]').click();
    return true;
})()";

/// With `CLICKSTREAM_UPDATE=1` the picture for the documentation is taken as well.
pub async fn signs_in_through_a_browser(stack: &Stack, browser: &Browser) -> anyhow::Result<()> {
    let form = get(stack.adminer, "/").await?;
    ensure!(form.contains("auth[password]"), "no login form: {form}");

    let page = browser.page().await?;
    // Adminer asks how wide the screen is
    page.viewport(1100, 600, false).await?;
    let base = format!("http://127.0.0.1:{}/", stack.adminer);
    page.goto(&base).await?;
    page.eval(FILL_IN).await?;
    page.wait_for("document.querySelector('#logout') !== null", PATIENCE)
        .await?;

    let schema = format!("{base}?pgsql=postgres&username=postgres&db=analytics&ns=clickstream");
    page.goto(&schema).await?;
    for relation in ["clickstream_events", "clickstream_agg_minute"] {
        let listed = format!("document.body.innerText.includes('{relation}')");
        page.wait_for(&listed, PATIENCE).await?;
    }
    page.goto(&format!(
        "{schema}&select=clickstream_agg_minute&order%5B0%5D=hits&desc%5B0%5D=1&limit=8"
    ))
    .await?;
    page.wait_for(
        // the menu comes last
        "document.querySelectorAll('#table tbody tr').length > 0 && document.readyState === 'complete' \
         && document.querySelector('#tables') !== null",
        PATIENCE,
    )
    .await?;
    if std::env::var_os("CLICKSTREAM_UPDATE").is_some() {
        page.screenshot(&workspace_root().join("docs/images/adminer.png"))
            .await?;
    }
    Ok(())
}
