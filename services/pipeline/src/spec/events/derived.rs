//! What a spec says of pages, campaigns and bots: the rules that follow, and what is wrong with it.

use serde::{Deserialize, Serialize};

use super::{EventsSpec, mapping::check_text};
use crate::bots::BotList;
use crate::derived::DerivedRules;
use crate::page::{
    Fragment, MAX_KEY_CHARS, MAX_KEYS, MAX_TEMPLATES, MOST_PER_WINDOW, PageRules, Template,
    TrailingSlash,
};
use crate::spec::validate::At;

/// How the page that a hit is counted by is made from its URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PageSpec {
    /// Slashes at the end of the path. Live. Default `Remove`.
    pub trailing_slash: TrailingSlash,
    /// What stands behind `#`. Live. Default `Remove`.
    pub fragment: Fragment,
    /// Keys of the query that pages keep, as they are written in URLs, in the order in which pages
    /// have them: at most 64, each of 1 to 128 characters without `&`, `=`, `#` and spaces, and none of
    /// them twice. All others are left out. Live. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::query_keys"))]
    pub query_keys: Vec<String>,
    /// Paths that are counted as one page, such as `/product/:id` and `/docs/*rest`, at most 100 of at
    /// most 255 characters:
    /// `:name` stands for one segment, `*rest` at the end for one or more. The first that matches
    /// stands in the page instead of the path. Live. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::templates"))]
    pub templates: Vec<Template>,
    /// The most pages of a window and a Kafka partition that are counted by themselves, each with
    /// the names of its events and sites: the first ones in the order of the log. All hits of pages
    /// that come after them are counted as the page `(other)`. Live. 1 to 10000. Default: none,
    /// every page is counted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10_000)))]
    pub max_per_window: Option<u32>,
}

/// What becomes of where visitors come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AcquisitionPolicy {
    /// It stays in `url` and `referrer`.
    #[default]
    Ignore,
    /// It has columns of its own too: `utm_source`, `utm_medium`, `utm_campaign`, `utm_term` and
    /// `utm_content` of the URL's query, and `referrer_host`.
    Store,
}

/// What becomes of events that something speaks for being a program's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BotsPolicy {
    /// They are counted like all others.
    #[default]
    Ignore,
    /// They are counted like all others, and in `bot_hits` too; `bot` says what speaks for it.
    Mark,
}

impl PageSpec {
    fn rules(&self) -> PageRules {
        PageRules {
            trailing_slash: self.trailing_slash,
            fragment: self.fragment,
            query: self.query_keys.clone(),
            templates: self.templates.clone(),
            max_per_window: self.max_per_window,
        }
    }

    fn check(&self, at: &mut At<'_>) {
        let mut keys = at.field("queryKeys");
        if self.query_keys.len() > MAX_KEYS {
            keys.problem(format!("name at most {MAX_KEYS} keys"));
        }
        for (index, key) in self.query_keys.iter().enumerate() {
            check_text(key, &mut keys.index(index));
            if !is_key(key) {
                keys.index(index).problem(format!(
                    "write 1 to {MAX_KEY_CHARS} characters, none of them `&`, `=`, `#` or a space"
                ));
            }
            if self.query_keys[..index].contains(key) {
                keys.index(index).problem("it is named twice");
            }
        }
        let mut templates = at.field("templates");
        for (index, template) in self.templates.iter().enumerate() {
            check_text(&template.to_string(), &mut templates.index(index));
        }
        if self.templates.len() > MAX_TEMPLATES {
            at.field("templates")
                .problem(format!("name at most {MAX_TEMPLATES} templates"));
        }
        if let Some(most) = self.max_per_window {
            at.field("maxPerWindow").within(most, 1..=MOST_PER_WINDOW);
        }
    }
}

/// Whether a query can have such a key.
fn is_key(key: &str) -> bool {
    (1..=MAX_KEY_CHARS).contains(&key.chars().count())
        && !key.contains(|c: char| matches!(c, '&' | '=' | '#') || c.is_ascii_whitespace())
}

impl EventsSpec {
    /// The rules for what is derived from fields.
    pub(super) fn derived(&self) -> DerivedRules {
        DerivedRules {
            page: self.page.as_ref().map(PageSpec::rules),
            acquisition: self.acquisition == AcquisitionPolicy::Store,
            bots: (self.bots == BotsPolicy::Mark).then_some(BotList::NEWEST),
        }
    }

    pub(super) fn check_derived(&self, at: &mut At<'_>) {
        if let Some(page) = &self.page {
            page.check(&mut at.field("page"));
        }
    }
}

/// The same rules in the vocabulary of Kubernetes.
#[cfg(feature = "schema")]
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    use super::{MAX_KEY_CHARS, MAX_KEYS, MAX_TEMPLATES};
    use crate::page::{MAX_TEMPLATE_CHARS, TEMPLATE_PATTERN};

    pub(super) fn query_keys(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": MAX_KEYS,
            "x-kubernetes-list-type": "set",
            "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_KEY_CHARS,
                "pattern": r"^[^&=#\s\p{Cc}]+$",
            },
        })
    }

    pub(super) fn templates(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": MAX_TEMPLATES,
            "x-kubernetes-list-type": "atomic",
            "items": {
                "type": "string",
                "maxLength": MAX_TEMPLATE_CHARS,
                "pattern": TEMPLATE_PATTERN,
            },
        })
    }
}
