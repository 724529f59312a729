//! `take-over`: the schemas of a pipeline that is gone become this one's.

use anyhow::bail;
use clickstream_protocol::annotations::TAKE_OVER_FROM;
use regex::Regex;
use serde_json::json;

use super::{Said, ask, refuse_paused, status};
use crate::{access::Access, args::incidents::TakeOverArgs};

/// Says whose the schemas are, or takes them over.
///
/// # Errors
/// The owner cannot be one, or still exists; or the resource may not be changed.
pub async fn run(access: &Access, args: &TakeOverArgs) -> anyhow::Result<Said> {
    let name = &args.verb.name;
    let pipeline = access.pipeline(name).await?;
    let place = format!("{}/{name}", access.namespace);
    let Some(from) = &args.from else {
        let status = status(&pipeline);
        let mut conditions = status.conditions.iter();
        let owner = conditions
            .find(|condition| condition.type_ == "DatabaseReady")
            .and_then(|condition| owner(&condition.message));
        return Ok(Said::new(match owner {
            Some(owner) => format!(
                "{place}: its schema belongs to {owner}. When that pipeline is gone for good:\n  kubectl clickstream take-over {name} --from {owner} --namespace {}\n",
                access.namespace
            ),
            None => format!(
                "{place}: no migration says that a schema of it belongs to another pipeline\n"
            ),
        }));
    };
    refuse_paused(access, &pipeline)?;
    let Some((namespace, old)) = parts(from) else {
        bail!(
            "--from {from}: write NAMESPACE/NAME, or NAMESPACE/NAME@CLUSTER as the message has them"
        );
    };
    if (namespace, old) == (access.namespace.as_str(), name.as_str()) && !from.contains('@') {
        bail!("--from {from}: that is this pipeline itself");
    }
    // in another cluster nobody can look; here, two would write one schema
    if !from.contains('@') && exists(access, namespace, old).await {
        bail!(
            "{from} still exists: delete it first, its topics and tables stay by default (kubectl delete clickstreampipeline {old} --namespace {namespace})"
        );
    }
    let changes = [(TAKE_OVER_FROM, json!(from))];
    let answer = ask(access, &args.verb, &changes, None).await?;
    let text = format!(
        "{place}: the next migration takes the schemas of {from} over.\n{}To watch: kubectl clickstream status {name} --watch --namespace {}\n",
        answer.conditions(&["DatabaseReady"]),
        access.namespace
    );
    Ok(Said::of(text, &answer, &args.verb))
}

/// The owner that a migration names in its refusal.
fn owner(message: &str) -> Option<String> {
    let named = Regex::new(r"belongs to pipeline (\S+) of cluster (\S+?)\. ").ok()?;
    let found = named.captures(message)?;
    Some(format!("{}@{}", &found[1], &found[2]))
}

/// Namespace and name.
fn parts(owner: &str) -> Option<(&str, &str)> {
    let pipeline = owner
        .split_once('@')
        .map_or(owner, |(pipeline, _)| pipeline);
    let (namespace, name) = pipeline.split_once('/')?;
    let is_name = |text: &str| {
        let mut characters = text.chars();
        !text.is_empty()
            && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let cluster = owner.split_once('@').map_or("-", |(_, cluster)| cluster);
    let is_one = !cluster.is_empty() && !cluster.contains([',', '@', ' ', '\'']);
    (is_name(namespace) && is_name(name) && is_one).then_some((namespace, name))
}

/// Whether the pipeline is seen to exist; who may not look there is trusted to know.
async fn exists(access: &Access, namespace: &str, name: &str) -> bool {
    let there = Access {
        client: access.client.clone(),
        namespace: namespace.to_owned(),
    };
    there.pipelines().get(name).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_the_refusal_of_a_migration() {
        let message = "target main: SchemaOwnedElsewhere: schema \"c\" belongs to pipeline shop/web of cluster 6f1c-1. Two pipelines never share a schema";
        assert_eq!(owner(message).as_deref(), Some("shop/web@6f1c-1"));
        assert_eq!(owner("the migration runs"), None);
    }

    #[test]
    fn owners_have_a_namespace_and_a_name() {
        assert_eq!(parts("shop/web"), Some(("shop", "web")));
        assert_eq!(parts("shop/web@c-1"), Some(("shop", "web")));
        for wrong in [
            "web",
            "/web",
            "shop/",
            "a/b/c",
            "a/b@",
            "a/b@c,d/e",
            "A/b",
            "a/b@x'y",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
