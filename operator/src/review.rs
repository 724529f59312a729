//! Whose a token is, and what that one may read: asked of the Kubernetes API, as every API server's own metrics are.

use std::pin::Pin;

use clickstream_telemetry::admin::{Decision, Judge, Judgement};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

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

    async fn review(&self, token: &str, path: &str) -> Result<Decision, kube::Error> {
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
            _ => return Ok(Decision::Unknown),
        };
        let who = user.username.clone().unwrap_or_default();
        let accesses: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let access = accesses
            .create(&PostParams::default(), &may_get(user, path))
            .await?;
        // a refusal beside a permission counts: an authoriser that says no is not outvoted
        let allowed = access
            .status
            .is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(match allowed {
            true => Decision::Allowed,
            false => Decision::Forbidden { who },
        })
    }
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
