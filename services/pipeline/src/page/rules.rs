//! The rules for pages, as anchors keep them: nothing in them follows a later release's defaults.

use serde::{Deserialize, Serialize};

use super::Template;

/// Most keys of a query that are kept.
pub const MAX_KEYS: usize = 64;
/// Longest such key, in characters.
pub const MAX_KEY_CHARS: usize = 128;
/// The largest bound of the pages of a window: as much as is looked up of a window at once.
pub const MOST_PER_WINDOW: u32 = 10_000;
/// Most templates.
pub const MAX_TEMPLATES: usize = 100;

/// How a page is made from a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageRules {
    /// What becomes of slashes at the end of the path.
    pub trailing_slash: TrailingSlash,
    /// What becomes of what stands behind `#`.
    pub fragment: Fragment,
    /// Keys of the query that are kept, in the order in which pages have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// The first that matches the path stands in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// The most pages of a window and a Kafka partition that have rows of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_window: Option<u32>,
}

/// What becomes of slashes at the end of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TrailingSlash {
    /// They are left out, all but that of the root.
    #[default]
    Remove,
    /// They are kept: `/a` and `/a/` are two pages.
    Keep,
}

/// What becomes of what stands behind `#`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Fragment {
    /// It is left out.
    #[default]
    Remove,
    /// It is kept: for sites whose scripts put the page there, as in `/#/cart`.
    Keep,
}
