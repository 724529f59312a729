//! The page's files, compiled in: it works without any other host.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Path under which it is served.
    pub path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The page itself; served to those who may look.
pub const PAGE: Asset = Asset {
    path: "/",
    content_type: HTML,
    content: include_str!("../web/index.html"),
};

/// What the others get in its place.
pub const LOGIN: Asset = Asset {
    path: "/",
    content_type: HTML,
    content: include_str!("../web/login.html"),
};

/// Everything that both are made of; no data in it.
pub const ASSETS: [Asset; 10] = [
    script("/app.js", include_str!("../web/app.js")),
    script("/chart.js", include_str!("../web/chart.js")),
    script("/dom.js", include_str!("../web/dom.js")),
    script("/explain.js", include_str!("../web/explain.js")),
    script("/flow.js", include_str!("../web/flow.js")),
    script("/format.js", include_str!("../web/format.js")),
    script("/login.js", include_str!("../web/login.js")),
    script("/panels.js", include_str!("../web/panels.js")),
    Asset {
        path: "/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../web/style.css"),
    },
    Asset {
        path: "/icon.svg",
        content_type: "image/svg+xml",
        content: include_str!("../web/icon.svg"),
    },
];

const fn script(path: &'static str, content: &'static str) -> Asset {
    Asset {
        path,
        content_type: SCRIPT,
        content,
    }
}

impl Asset {
    /// The answer to a request for it: nothing but a status when the browser has it already.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let digest = Sha256::digest(self.content);
        let tag: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let tag = format!("\"{tag}\"");
        let known = headers
            .get(IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(CONTENT_TYPE, self.content_type)], self.content).into_response()
        };
        let headers = response.headers_mut();
        // asked for at every visit: the files change with the program only, but under the same
        // names
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_together_is_small() {
        let all = ASSETS.iter().chain([&PAGE, &LOGIN]);
        let bytes: usize = all.map(|asset| asset.content.len()).sum();
        assert!(bytes < 100 * 1024, "{bytes} bytes");
    }

    #[test]
    fn no_file_names_another_host_or_holds_a_script_in_the_page() {
        for asset in ASSETS.iter().chain([&PAGE, &LOGIN]) {
            // the namespace of SVG is a name, nothing is fetched from there
            let content = asset.content.replace("http://www.w3.org/2000/svg", "");
            assert!(!content.contains("http://"), "{}", asset.path);
            assert!(!content.contains("https://"), "{}", asset.path);
            for danger in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " onclick=",
                " style=",
            ] {
                assert!(!content.contains(danger), "{} holds {danger}", asset.path);
            }
        }
    }

    #[test]
    fn a_browser_that_has_the_file_is_told_so() {
        let first = PAGE.answer(&HeaderMap::new());
        let mut headers = HeaderMap::new();
        if let Some(tag) = first.headers().get(ETAG) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(PAGE.answer(&headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(LOGIN.answer(&headers).status(), StatusCode::OK);
    }
}
