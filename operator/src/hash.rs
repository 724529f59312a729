//! Hashes that stand in names and labels.

/// Eight hexadecimal digits: one collision among 10,000 names with a chance of 1 %, all of which
/// would also have to share a beginning of 54 characters.
pub fn short_hash(digest: &[u8]) -> String {
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
