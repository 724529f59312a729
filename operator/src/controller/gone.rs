//! Pipelines that are gone, whether or not they had a finalizer: nothing of them is kept, least of
//! all a connection with their credentials.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kube::{
    Resource,
    core::DeserializeGuard,
    runtime::{reflector::Store, watcher},
};

use super::context::Context;
use crate::crd::ClickstreamPipeline;

/// How often connections that nobody uses are looked for.
const LOOK_FOR_IDLE: Duration = Duration::from_secs(10);

/// Follows the watch of pipelines: a pipeline is remembered from the moment it is there until it is
/// gone, and no longer.
pub fn follow(
    context: &Context,
    event: &watcher::Result<watcher::Event<DeserializeGuard<ClickstreamPipeline>>>,
    listed: &Store<DeserializeGuard<ClickstreamPipeline>>,
) {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            if let Some(uid) = &object.meta().uid {
                context.memories.seen(uid);
            }
        }
        Ok(watcher::Event::Delete(object)) => {
            if let Some(uid) = &object.meta().uid {
                forget(uid, context);
            }
        }
        // whatever went while the watch was broken off
        Ok(watcher::Event::InitDone) => {
            let there: HashSet<String> = listed
                .state()
                .iter()
                .filter_map(|object| object.meta().uid.clone())
                .collect();
            for uid in context.memories.others(&there) {
                forget(&uid, context);
            }
        }
        Ok(watcher::Event::Init) | Err(_) => {}
    }
}

/// Forgets a pipeline.
pub fn forget(uid: &str, context: &Context) {
    context.applier.forget(uid);
    context.memories.forget(uid);
    context.secrets.forget(uid);
    context.upgrades.done(uid);
}

/// Forgets what a reconcile has noted after its pipeline was gone.
pub fn forget_if_gone(uid: &str, context: &Context) {
    if !context.memories.knows(uid) {
        forget(uid, context);
    }
}

/// Closes connections that nobody has used for a while. Ends when it is dropped.
pub async fn close_idle(context: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK_FOR_IDLE).await;
        context.admins.close_idle();
        context.asker.close_idle();
    }
}
