//! The pipeline's account at Kafka, opened when something is asked for the first time.

use std::sync::Arc;

use clickstream_pipeline::spec::{KafkaSpec, SecretKeys};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    controller::{
        context::{Context, Error},
        dereference,
        validate::ValidatedPipeline,
    },
    crd::ClickstreamPipeline,
    topics::{TopicAdmin, from_elsewhere},
};

/// The connection of one pipeline, for one look at its topics.
pub struct Kafka<'a> {
    uid: String,
    valid: &'a ValidatedPipeline,
    context: &'a Context,
    keys: SecretKeys,
    /// A digest of the servers and the credentials.
    pub of: String,
    open: Option<Arc<TopicAdmin>>,
}

impl<'a> Kafka<'a> {
    /// Nothing is opened yet.
    pub fn new(
        pipeline: &ClickstreamPipeline,
        valid: &'a ValidatedPipeline,
        context: &'a Context,
    ) -> Self {
        let kafka = spec(valid);
        let keys = kafka.admin_secret_keys();
        Self {
            uid: pipeline.uid().unwrap_or_default(),
            of: valid.hash_of(&json!([kafka, valid.namespace]), &keys),
            valid,
            context,
            keys,
            open: None,
        }
    }

    /// The connection, or what is wrong with the settings.
    ///
    /// # Errors
    /// What the API server says when the Secrets are read again.
    pub async fn connection(&mut self) -> Result<Result<Arc<TopicAdmin>, String>, Error> {
        if let Some(open) = &self.open {
            return Ok(Ok(Arc::clone(open)));
        }
        let memories = &self.context.memories;
        let known = match memories.account(&self.uid, &self.of) {
            Some(account) => account.connection().await,
            None => None,
        };
        let admin = match known {
            Some(admin) => admin,
            None => match self.sign_in().await? {
                Ok(admin) => admin,
                Err(why) => return Ok(Err(why)),
            },
        };
        self.open = Some(Arc::clone(&admin));
        Ok(Ok(admin))
    }

    async fn sign_in(&self) -> Result<Result<Arc<TopicAdmin>, String>, Error> {
        let (valid, context) = (self.valid, self.context);
        let read;
        let values = match &valid.values {
            Some(values) => values,
            // only now are they needed again
            None => {
                read = dereference::values(&context.client, &valid.namespace, &self.keys).await?;
                &read
            }
        };
        let properties = match spec(valid).admin_properties(values) {
            Ok(properties) => from_elsewhere(properties, &valid.namespace),
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(match context.admins.get(properties).await {
            Ok((account, admin)) => {
                context
                    .memories
                    .keep_account(&self.uid, self.of.clone(), account);
                Ok(admin)
            }
            Err(error) => Err(error.to_string()),
        })
    }
}

fn spec(valid: &ValidatedPipeline) -> &KafkaSpec {
    &valid.document.spec.kafka
}
