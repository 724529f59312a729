//! A child, whatever it is.

use serde_json::Value;

use crate::kind::Kind;

/// A child as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// What it is.
    pub kind: Kind,
    /// Its name, in the pipeline's namespace.
    pub name: String,
    /// Everything else: `metadata` without name and owner, `spec` or `data`.
    pub body: Value,
}
