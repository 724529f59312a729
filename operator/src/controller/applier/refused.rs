//! What the API server will not have: told in its words, and sent again at a pace that wears nobody
//! out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kube::core::Status;
use parking_lot::Mutex;

use crate::kind::Kind;

/// How soon the same request is sent again: a right that is granted, a quota that is raised and a
/// webhook that is mended wake nobody.
const AGAIN: Duration = Duration::from_secs(15);
/// What is told of the API server's words: several fit into a condition.
const LONGEST: usize = 320;

/// An object that the API server refuses: its contents, a policy, a quota or the operator's own
/// rights stand against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server refuses {kind} {name}: {why}")]
pub struct Refused {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What the API server says, without values that are whole objects.
    pub why: String,
}

impl Refused {
    /// Reads an answer. `None`: it says nothing about the object, and the same request may be good
    /// the next time. Neither is a namespace on its way out a reason that a person could do
    /// anything about.
    pub fn of(kind: Kind, name: &str, answer: &Status) -> Option<Self> {
        // a caller that is not known, too slow, in conflict, or one of too many
        let passes = matches!(answer.code, 401 | 408 | 409 | 429);
        if !(400..500).contains(&answer.code) || passes || is_terminating(answer) {
            return None;
        }
        Some(Self {
            kind: kind.names().kind,
            name: name.to_owned(),
            why: words(&answer.message),
        })
    }
}

/// Whether a request was refused because the namespace is being deleted.
pub fn is_terminating(status: &Status) -> bool {
    status.details.iter().any(|details| {
        let mut causes = details.causes.iter();
        causes.any(|cause| cause.reason == "NamespaceTerminating")
    })
}

/// A message in one line, without what stands in braces: of a field that may not change, the API
/// server shows the whole value.
fn words(message: &str) -> String {
    let mut text = message.to_owned();
    if let Some(begin) = text.find('{') {
        let end = text[begin..].rfind('}');
        let end = end.map_or(text.len(), |end| begin + end + 1);
        text.replace_range(begin..end, "...");
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() <= LONGEST {
        return text;
    }
    let end = text.floor_char_boundary(LONGEST - 3);
    format!("{}...", &text[..end])
}

/// What is asked for: of one object, another request may be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// All of it is as it should be.
    Apply,
    /// Some fields are.
    Adjust,
    /// It goes.
    Delete,
}

/// A request, by what it is about and a digest of what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request<'r> {
    /// What is asked for.
    pub verb: Verb,
    /// The object's kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'r str,
    /// Its name.
    pub name: &'r str,
    /// Uid of the pipeline.
    pub owner: &'r str,
    /// Of what is sent.
    pub digest: [u8; 32],
}

type Key = (Verb, Kind, String);

struct Before {
    digest: [u8; 32],
    at: Instant,
    refused: Refused,
}

/// What was refused a moment ago, by the uid of the pipeline.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<String, HashMap<Key, Before>>>);

impl Refusals {
    /// The answer to the same request, while it is not yet time to send it again.
    pub fn known(&self, request: &Request<'_>) -> Option<Refused> {
        let known = self.0.lock();
        let before = known.get(request.owner)?.get(&key(request))?;
        (before.digest == request.digest && before.at.elapsed() < AGAIN)
            .then(|| before.refused.clone())
    }

    /// Keeps the answer to a request, if it is a refusal.
    ///
    /// # Errors
    /// What is none.
    pub fn keep(&self, request: &Request<'_>, error: kube::Error) -> Result<Refused, kube::Error> {
        let refused = match &error {
            kube::Error::Api(answer) => Refused::of(request.kind, request.name, answer),
            _ => None,
        };
        let Some(refused) = refused else {
            return Err(error);
        };
        tracing::warn!(
            namespace = request.namespace,
            kind = refused.kind,
            name = refused.name,
            why = refused.why,
            verb = ?request.verb,
            "the API server refuses an object"
        );
        let mut known = self.0.lock();
        let known = known.entry(request.owner.to_owned()).or_default();
        // older ones are asked again anyhow
        known.retain(|_, before| before.at.elapsed() < AGAIN);
        let before = Before {
            digest: request.digest,
            at: Instant::now(),
            refused: refused.clone(),
        };
        known.insert(key(request), before);
        Ok(refused)
    }

    /// Nothing of this pipeline is known any more.
    pub fn forget(&self, owner: &str) {
        self.0.lock().remove(owner);
    }
}

fn key(request: &Request<'_>) -> Key {
    (request.verb, request.kind, request.name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use kube::core::response::StatusDetails;
    use serde_json::json;

    use super::*;

    fn answer(code: u16, message: &str) -> Status {
        Status::failure(message, "").with_code(code)
    }

    #[test]
    fn an_answer_that_may_pass_is_no_refusal() {
        for code in [400, 403, 404, 413, 422] {
            assert!(
                Refused::of(Kind::Service, "web", &answer(code, "no")).is_some(),
                "{code}"
            );
        }
        for code in [0, 200, 401, 408, 409, 429, 500, 503, 504] {
            let found = Refused::of(Kind::Service, "web", &answer(code, "no"));
            assert_eq!(found, None, "{code}");
        }
        let mut going = answer(403, "namespace shop is being terminated");
        let causes = json!({ "causes": [{ "reason": "NamespaceTerminating" }] });
        let details: StatusDetails = serde_json::from_value(causes).unwrap();
        going.details = Some(details);
        assert_eq!(Refused::of(Kind::Job, "web", &going), None);
    }

    #[test]
    fn words_are_one_line_of_limited_length_and_show_no_whole_value() {
        let said = words(
            "Job \"a\" is invalid: template: Invalid value: core.Pod{Env:{\"hunter2\"}}:\n is immutable",
        );
        assert_eq!(
            said,
            "Job \"a\" is invalid: template: Invalid value: core.Pod...: is immutable"
        );
        assert_eq!(words("cut off {hunter2"), "cut off ...");
        assert_eq!(words("} and {"), "} and ...");
        assert!(words(&"ä".repeat(5_000)).len() <= LONGEST);
    }

    #[test]
    fn the_same_is_not_sent_again_at_once_and_anything_else_is() {
        let refusals = Refusals::default();
        let request = Request {
            verb: Verb::Apply,
            kind: Kind::Deployment,
            namespace: "shop",
            name: "web",
            owner: "uid",
            digest: [1; 32],
        };
        let error = || kube::Error::Api(answer(422, "no").boxed());
        assert!(refusals.known(&request).is_none());
        let refused = refusals.keep(&request, error()).unwrap();
        assert_eq!(
            refused.to_string(),
            "the API server refuses Deployment web: no"
        );
        assert_eq!(refusals.known(&request), Some(refused));
        for other in [
            Request {
                digest: [2; 32],
                ..request.clone()
            },
            Request {
                verb: Verb::Delete,
                ..request.clone()
            },
            Request {
                owner: "another",
                ..request.clone()
            },
        ] {
            assert!(refusals.known(&other).is_none(), "{other:?}");
        }
        let key = super::key(&request);
        let mut known = refusals.0.lock();
        known.get_mut("uid").unwrap().get_mut(&key).unwrap().at -= AGAIN;
        drop(known);
        assert!(refusals.known(&request).is_none());
        refusals.keep(&request, error()).unwrap();
        refusals.forget("uid");
        assert!(refusals.known(&request).is_none());
        let passes = kube::Error::Api(answer(409, "conflict").boxed());
        assert!(refusals.keep(&request, passes).is_err());
    }
}
