//! How a service answers the questions of the admin server.

/// The answer to one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong or pending.
    Ok,
    /// What is wrong or still pending, in words an operator can act on; shown to whoever asks, so
    /// without secrets.
    Failing(String),
}

impl Verdict {
    /// `Ok` when nothing is in the list, otherwise everything in it, joined by `; `.
    pub fn from_pending<I>(pending: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let pending: Vec<String> = pending.into_iter().map(Into::into).collect();
        if pending.is_empty() {
            Self::Ok
        } else {
            Self::Failing(pending.join("; "))
        }
    }

    /// Whether the probe passes.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// A service's view of itself. The methods are called on the runtime's threads for every request,
/// so they read what is already known and never wait for a network or a lock that is held across
/// one.
pub trait Health: Send + Sync {
    /// Failing means: a restart is the remedy. A database or broker that is away is no reason for
    /// it.
    fn live(&self) -> Verdict;

    /// Failing means: not doing its work yet, or not any more; names what is pending.
    fn ready(&self) -> Verdict;

    /// The service's state as JSON; no secrets and no event payloads.
    fn status(&self) -> serde_json::Value;
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn nothing_pending_is_ok() {
        assert_eq!(Verdict::from_pending(Vec::<String>::new()), Verdict::Ok);
    }

    #[test]
    fn everything_pending_is_named() {
        let verdict = Verdict::from_pending(["kafka: no assignment", "postgres: connecting"]);
        assert!(!verdict.is_ok());
        assert_eq!(
            verdict,
            Verdict::Failing("kafka: no assignment; postgres: connecting".to_owned())
        );
    }
}
