//! `kubectl clickstream` by people who have only the chart's roles.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clickstream_testbed::{build_binary, unique_name};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::Pod,
    rbac::v1::{ClusterRole, RoleBinding},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    rights::installed,
    stage::{Migrations, PATIENCE, Stage},
};

pub const VIEW: &str = "clickstream-system:clickstream-operator:view";
pub const EDIT: &str = "clickstream-system:clickstream-operator:edit";

/// Somebody with a kubeconfig, and with rights in one namespace.
pub struct Person {
    kubeconfig: PathBuf,
    namespace: String,
    plugin: PathBuf,
}

impl Person {
    /// Somebody bound to these ClusterRoles.
    pub async fn with(stage: &Stage, roles: &[&str]) -> anyhow::Result<Self> {
        for role in chart_roles()? {
            Api::<ClusterRole>::all(stage.client.clone())
                .patch(
                    &role.name_any(),
                    &PatchParams::apply("test").force(),
                    &Patch::Apply(&role),
                )
                .await?;
        }
        let user = unique_name("person");
        for role in roles {
            let binding: RoleBinding = serde_json::from_value(json!({
                "metadata": { "generateName": "person-" },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
            }))?;
            stage
                .all::<RoleBinding>()
                .create(&PostParams::default(), &binding)
                .await?;
        }
        let person = Self {
            kubeconfig: stage.api.kubeconfig_as(&user, &[])?,
            namespace: stage.namespace.clone(),
            plugin: build_binary("kubectl-clickstream")?,
        };
        person.is_known(stage, &user, roles).await?;
        Ok(person)
    }

    /// The API server learns of a binding a moment later.
    async fn is_known(&self, stage: &Stage, user: &str, roles: &[&str]) -> anyhow::Result<()> {
        use k8s_openapi::api::authorization::v1::SubjectAccessReview;
        // the last rule of each role
        let (group, resource, verb) = match roles.last() {
            Some(&EDIT) => ("", "pods", "list"),
            Some(&VIEW) => ("events.k8s.io", "events", "watch"),
            _ => ("clickstream.dev", "clickstreampipelines", "get"),
        };
        let review: SubjectAccessReview = serde_json::from_value(
            json!({ "metadata": {}, "spec": {
            "user": user,
            "resourceAttributes": { "namespace": self.namespace, "group": group, "resource": resource, "verb": verb },
        } }),
        )?;
        let begun = Instant::now();
        let reviews: Api<SubjectAccessReview> = Api::all(stage.client.clone());
        loop {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{user} is not given {roles:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.plugin);
        command
            .args(args)
            .args(["--namespace", &self.namespace, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Types a command: exit code, standard output, standard error.
    pub async fn types(&self, args: &[&str]) -> anyhow::Result<(i32, String, String)> {
        let output: Output = tokio::time::timeout(PATIENCE, self.command(args).output())
            .await
            .with_context(|| format!("{args:?} does not end"))??;
        Ok((
            output.status.code().context("a signal")?,
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    }
}

/// The roles for people, as the chart renders them.
fn chart_roles() -> anyhow::Result<Vec<ClusterRole>> {
    [VIEW, EDIT]
        .into_iter()
        .map(|name| installed("ClusterRole", name))
        .collect()
}

/// A pipeline `web` that is ready, and its operator.
pub async fn ready(stage: &Stage) -> anyhow::Result<clickstream_testbed::Process> {
    let operator = stage.operator()?;
    let pipeline = stage.pipeline("web", &unique_name("clicks"), json!({}));
    stage.apply(&pipeline).await?;
    stage
        .condition("web", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(operator)
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = ready(&stage).await?;
    let viewer = Person::with(&stage, &[VIEW]).await?;

    let (code, screen, err) = viewer.types(&["status", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{screen}");
    for part in [
        "True (Ready)",
        "Topics",
        "Targets",
        "2/2",
        "TopicsReady",
        "TopicCreated",
    ] {
        assert!(screen.contains(part), "no {part} in\n{screen}");
    }
    assert!(!screen.contains('\u{1b}'), "{screen}");

    let (_, json, _) = viewer.types(&["status", "web", "-o", "json"]).await?;
    let report: Value = serde_json::from_str(&json)?;
    assert_eq!(report["ready"]["status"], "True");
    assert_eq!(report["topics"][0]["partitions"], 3);
    assert!(
        report["lag"].is_null(),
        "a lag that nobody knows is absent: {report}"
    );
    assert!(
        report["events"]
            .as_array()
            .is_some_and(|events| !events.is_empty())
    );

    let (_, list, _) = viewer.types(&["status"]).await?;
    assert_eq!(list.lines().count(), 2, "{list}");
    let (_, yaml, _) = viewer.types(&["status", "-o", "yaml"]).await?;
    assert!(yaml.starts_with("- name: web\n"), "{yaml}");

    for refused in [["pause", "web"], ["resume", "web"], ["audit", "web"]] {
        let (code, out, err) = viewer.types(&refused).await?;
        assert_eq!((code, out.as_str()), (1, ""), "{refused:?}");
        assert!(
            err.contains("forbidden") && err.lines().count() == 1,
            "{err}"
        );
    }
    let (code, _, err) = viewer.types(&["status", "--all-namespaces"]).await?;
    assert!(code == 1 && err.contains("forbidden"), "{err}");
    let (code, _, err) = viewer.types(&["status", "shop"]).await?;
    assert!(code == 1 && err.contains("no pipeline shop"), "{err}");
    Ok(())
}

#[tokio::test]
async fn get_on_the_resource_is_enough_for_its_status() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = ready(&stage).await?;
    let name = unique_name("reader").replace('_', "-");
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": { "name": name },
        "rules": [{ "apiGroups": ["clickstream.dev"], "resources": ["clickstreampipelines"], "verbs": ["get"] }],
    }))?;
    Api::<ClusterRole>::all(stage.client.clone())
        .create(&PostParams::default(), &role)
        .await?;
    let reader = Person::with(&stage, &[&name]).await?;
    let (code, screen, _) = reader.types(&["status", "web"]).await?;
    assert_eq!(code, 0);
    assert!(screen.contains("True (Ready)"), "{screen}");
    assert!(screen.contains("you may not list Events"), "{screen}");
    Ok(())
}

#[tokio::test]
async fn an_editor_pauses_and_resumes_and_whoever_watches_sees_it() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = ready(&stage).await?;
    let viewer = Person::with(&stage, &[VIEW]).await?;
    let mut watching = viewer
        .command(&["status", "web", "--watch", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no output")?).lines();
    let mut until = async |reason: &str| -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                let report: Value = serde_json::from_str(&line)?;
                if report["ready"]["reason"] == reason {
                    return Ok(());
                }
            }
            bail!("it ended")
        })
        .await
        .with_context(|| format!("{reason} was not shown"))?
    };
    until("Ready").await?;

    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;
    let (code, said, err) = editor.types(&["pause", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        said.contains("is being paused") && said.contains("resume web"),
        "{said}"
    );
    stage.condition("web", "Suspended", "True", "").await?;
    until("Suspended").await?;
    let (_, said, _) = editor.types(&["pause", "web"]).await?;
    assert!(said.contains("is paused already"), "{said}");

    let (code, said, _) = editor.types(&["resume", "web"]).await?;
    assert_eq!(code, 0);
    assert!(said.contains("goes on"), "{said}");
    stage.condition("web", "Ready", "True", "Ready").await?;
    until("Ready").await
}

#[tokio::test]
async fn an_editor_audits_and_the_job_is_gone_afterwards() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = ready(&stage).await?;
    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;
    let (audit, job) = tokio::join!(editor.types(&["audit", "web"]), end_audit(&stage, 3));
    let ((code, _, err), job) = (audit?, job?);
    assert_eq!(code, 3, "{err}");

    let owner = &job.owner_references()[0];
    let pipeline = stage.pipeline_when("web", "there", |_| true).await?;
    assert_eq!(Some(&owner.uid), pipeline.uid().as_ref());
    assert_eq!(owner.controller, None);
    let left = stage.all::<Job>().list(&audits()).await?;
    assert!(left.items.is_empty(), "{left:?}");
    // the operator took neither the Job nor its pod for its own
    stage.condition("web", "Ready", "True", "Ready").await?;
    assert!(!operator.log().contains("audit"), "{}", operator.log());
    Ok(())
}

fn audits() -> ListParams {
    ListParams::default().labels("app.kubernetes.io/component=audit")
}

/// Plays the pod of the next audit: it ends with this code.
async fn end_audit(stage: &Stage, code: i32) -> anyhow::Result<Job> {
    let begun = Instant::now();
    let job = loop {
        if let Some(job) = stage.all::<Job>().list(&audits()).await?.items.pop() {
            break job;
        }
        if begun.elapsed() > PATIENCE {
            bail!("no audit begins");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let template = &job.spec.as_ref().context("a Job without a spec")?.template;
    let mut labels = job.labels().clone();
    labels.insert("batch.kubernetes.io/job-name".to_owned(), job.name_any());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": job.name_any(), "labels": labels }, "spec": template.spec,
    }))?;
    let pods = stage.all::<Pod>();
    pods.create(&PostParams::default(), &pod).await?;
    let ended = json!({ "status": { "phase": "Failed", "containerStatuses": [{
        "name": "audit", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
        "state": { "terminated": { "exitCode": code, "reason": "Error" } },
    }] } });
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&ended),
    )
    .await?;
    Ok(job)
}
