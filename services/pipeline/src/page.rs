//! The page that a hit is counted by, made from the URL by a spec's rules.
//!
//! Own code over bytes, since the `url` crate follows browsers: it changes percent-encoding, `..`
//! and backslashes, refuses relative URLs and allocates for each. Here all that is left as it is: a
//! page is made of pieces of the URL, or of a template's text.
//!
//! ```text
//!  https://user@Shop.Example:443/product/42/?utm_source=x&color=red#top
//!  https://     shop.example    /product/:id?             color=red
//! ```

mod address;
mod rules;
mod template;

use std::borrow::Cow;

pub(crate) use address::host;
pub use rules::{
    Fragment, MAX_KEY_CHARS, MAX_KEYS, MAX_TEMPLATES, MOST_PER_WINDOW, PageRules, TrailingSlash,
};
pub use template::{MAX_TEMPLATE_CHARS, NoTemplate, TEMPLATE_PATTERN, Template};

use address::Address;

/// Makes pages by rules.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    rules: PageRules,
}

impl Pages {
    pub(crate) fn new(rules: &PageRules) -> Self {
        Self {
            rules: rules.clone(),
        }
    }

    /// The page of a URL. It is never empty where the URL is not, and at most one byte longer: `/`
    /// behind a host; with templates, as much longer as the template's text is. A page is its own
    /// page. What is no address with a host and no path from the root (`urn:isbn:1`, `not a url`)
    /// is its own page too.
    pub(crate) fn page<'a>(&self, url: &'a str) -> Cow<'a, str> {
        let Some(address) = Address::parse(url) else {
            return Cow::Borrowed(url);
        };
        let path = match self.rules.trailing_slash {
            TrailingSlash::Remove => without_trailing_slashes(address.path),
            TrailingSlash::Keep => address.path,
        };
        let template = self.template(address.path);
        let fragment = address
            .fragment
            .filter(|text| self.rules.fragment == Fragment::Keep && !text.is_empty());
        let query = address
            .query
            .filter(|query| !self.rules.query.is_empty() && !query.is_empty());
        if template.is_none() && query.is_none() && fragment.is_none() && !path.is_empty() {
            let start = address.path_start(url);
            if address.is_plain_up_to_path() {
                return Cow::Borrowed(&url[..start + path.len()]);
            }
        }
        let mut page = String::with_capacity(url.len() + 1);
        address.write_up_to_path(&mut page);
        page.push_str(match template {
            Some(template) => template.text(),
            None if path.is_empty() => "/",
            None => path,
        });
        if let Some(query) = query {
            self.write_query(query, &mut page);
        }
        if let Some(fragment) = fragment {
            page.push('#');
            page.push_str(fragment);
        }
        Cow::Owned(page)
    }

    fn template(&self, path: &str) -> Option<&Template> {
        if self.rules.templates.is_empty() {
            return None;
        }
        let path = without_trailing_slashes(path);
        let mut templates = self.rules.templates.iter();
        templates.find(|template| template.matches(path))
    }

    /// The pairs whose keys are kept, in the order of the rules; several of one key as they stand.
    fn write_query(&self, query: &str, page: &mut String) {
        let mut separator = '?';
        for key in &self.rules.query {
            for pair in query.split('&') {
                if pair.split('=').next() == Some(key) {
                    page.push(separator);
                    page.push_str(pair);
                    separator = '&';
                }
            }
        }
    }
}

/// The path without any slash at its end; `/` where nothing else is left of one.
fn without_trailing_slashes(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        &path[..path.len().min(1)]
    } else {
        trimmed
    }
}

#[cfg(test)]
mod tests;
