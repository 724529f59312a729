//! Whose a token is, and what that one may read: asked of the Kubernetes API, as every API server's
//! own metrics are.

use std::pin::Pin;

use clickstream_telemetry::admin::{Decision, Judge, Judgement};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

/// What the API server says of every token that it does not take, beside what its authenticators
/// say.
const REFUSED: &str = "invalid bearer token";
/// What authenticators say of a token that they have looked at. What else they say can be that they
/// could not look.
const LOOKED_AT: [&str; 10] = [
    // the account that it is of, or the pod that it was made for, is gone, or another one by now
    "\" not found",
    ") does not match claim (",
    "does not match server's copy",
    "token has expired",
    "token is expired",
    "has been invalidated",
    "token is not valid yet",
    "expected audience",
    "email not verified",
    "error in cryptographic primitive",
];

/// Why it is not known who somebody is, or what they may do.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("the kubernetes api does not review")]
    Api(#[from] kube::Error),
    #[error("the kubernetes api could not check a token: {0}")]
    Token(String),
    #[error("the kubernetes api could not check what somebody may do: {0}")]
    Access(String),
}

/// Asks the API server about tokens. It takes the right to create both kinds of reviews.
pub struct TokenReviews {
    client: Client,
}

impl TokenReviews {
    /// Asks by this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn review(&self, token: &str, path: &str) -> Result<Decision, Unknown> {
        let of_token = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let tokens: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = tokens.create(&PostParams::default(), &of_token).await?;
        let status = reviewed.status.unwrap_or_default();
        let user = match (status.authenticated, status.user) {
            (Some(true), Some(user)) => user,
            _ => {
                let unchecked = status.error.filter(|error| !is_refusal(error));
                return match unchecked {
                    None => Ok(Decision::Unknown),
                    // what it says is logged
                    Some(error) => Err(Unknown::Token(error.replace(token, "..."))),
                };
            }
        };
        let who = user.username.clone().unwrap_or_default();
        let accesses: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let access = accesses
            .create(&PostParams::default(), &may_get(user, path))
            .await?;
        // a refusal beside a permission counts: an authoriser that says no is not outvoted
        let status = access.status.unwrap_or_default();
        match (status.allowed, status.denied, status.evaluation_error) {
            (_, Some(true), _) => Ok(Decision::Forbidden { who }),
            // an authoriser that could not be asked can only have said yes as well
            (true, ..) => Ok(Decision::Allowed),
            (false, _, Some(error)) if !is_about_roles(&error) => Err(Unknown::Access(error)),
            (false, ..) => Ok(Decision::Forbidden { who }),
        }
    }
}

/// Whether the error of a TokenReview is that the token is no good. There is one for every such
/// token.
fn is_refusal(error: &str) -> bool {
    let besides = error.replace(REFUSED, "");
    let is_nothing = besides.chars().all(|c| matches!(c, '[' | ']' | ',' | ' '));
    is_nothing || LOOKED_AT.iter().any(|said| besides.contains(said))
}

/// Whether the error of a SubjectAccessReview is that bindings name roles that are not there, which
/// allow nothing.
fn is_about_roles(error: &str) -> bool {
    let parts = error.trim_matches(['[', ']']).split(", ");
    parts.into_iter().all(|part| part.ends_with("not found"))
}

fn may_get(user: UserInfo, path: &str) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some(path.to_owned()),
                verb: Some("get".to_owned()),
            }),
            resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    }
}

impl Judge for TokenReviews {
    fn judge<'j>(
        &'j self,
        token: &'j str,
        path: &'j str,
    ) -> Pin<Box<dyn Future<Output = Judgement> + Send + 'j>> {
        Box::pin(async move { Ok(self.review(token, path).await?) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::convert::Infallible;

    use hyper::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// What is decided where the API server gives these two a status.
    async fn decided(of_token: Value, of_access: Value) -> Judgement {
        let answers = move |request: Request<Body>| {
            let status = match request.uri().path().ends_with("/tokenreviews") {
                true => of_token.clone(),
                false => of_access.clone(),
            };
            let answer = json!({ "metadata": {}, "spec": {}, "status": status }).to_string();
            async { Ok::<_, Infallible>(Response::new(Body::from(answer.into_bytes()))) }
        };
        let client = Client::new(tower::service_fn(answers), "default");
        TokenReviews::new(client).judge("a-token", "/metrics").await
    }

    fn somebody() -> Value {
        json!({ "authenticated": true, "user": { "username": "prometheus" } })
    }

    fn forbidden() -> Decision {
        let who = "prometheus".to_owned();
        Decision::Forbidden { who }
    }

    #[tokio::test]
    async fn what_the_api_server_has_decided_is_taken() {
        let yes = json!({ "allowed": true });
        for (of_token, of_access, expected) in [
            (somebody(), yes.clone(), Decision::Allowed),
            (somebody(), json!({ "allowed": false }), forbidden()),
            (
                somebody(),
                json!({ "allowed": true, "denied": true }),
                forbidden(),
            ),
            (json!({}), yes.clone(), Decision::Unknown),
            // one of several authorisers could not be asked, and another one is sure
            (
                somebody(),
                json!({ "allowed": true, "evaluationError": "Post https://a: no route" }),
                Decision::Allowed,
            ),
            // a binding to a role that is not there concerns nobody
            (
                somebody(),
                json!({ "allowed": false, "evaluationError": "clusterrole.rbac.authorization.k8s.io \"a\" not found" }),
                forbidden(),
            ),
        ] {
            let told = decided(of_token.clone(), of_access.clone()).await;
            assert_eq!(told.unwrap(), expected, "{of_token} {of_access}");
        }
        // the API server tells of every token that it does not take as an error
        for error in [
            "invalid bearer token",
            "[invalid bearer token, service account token has expired]",
            "[invalid bearer token, Token has been invalidated]",
            "[invalid bearer token, oidc: verify token: oidc: token is expired (Token Expiry: 2026-11-29 20:00:00 +0000 UTC)]",
            "[invalid bearer token, oidc: verify token: oidc: expected audience \"kubernetes\" got [\"account\"]]",
            "[invalid bearer token, serviceaccounts \"stranger\" not found]",
            "[invalid bearer token, square/go-jose: error in cryptographic primitive]",
            "[invalid bearer token, service account UID (2) does not match claim (1)]",
        ] {
            let refused = json!({ "authenticated": false, "error": error });
            let told = decided(refused, yes.clone()).await;
            assert_eq!(told.unwrap(), Decision::Unknown, "{error}");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_checked_is_no_refusal() {
        let no = json!({ "allowed": false });
        for error in [
            "Post \"https://authn.example.com\": context deadline exceeded",
            "[invalid bearer token, Post https://127.0.0.1:21362/authenticate?timeout=30s: x509: certificate has expired or is not yet valid]",
            "[invalid bearer token, oidc: authenticator not initialized]",
            "[invalid bearer token, oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed: no route]",
            "of a-token nothing is known",
        ] {
            let status = json!({ "authenticated": false, "error": error });
            let told = decided(status, no.clone()).await.unwrap_err().to_string();
            assert!(told.contains("token"), "{told}");
            assert!(!told.contains("a-token"), "{told}");
        }
        let status = json!({ "allowed": false, "evaluationError": "Post https://a: no route" });
        let told = decided(somebody(), status).await.unwrap_err().to_string();
        assert!(told.contains("no route"), "{told}");
    }
}
