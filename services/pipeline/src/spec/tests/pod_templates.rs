use proptest::prelude::*;
use serde_json::{Value, json};

use super::pod::{FOLDER, PROGRAMS, TAKEN};
use super::problems::problems;
use super::*;

fn template(value: Value) -> PodTemplateSpec {
    serde_json::from_value(value).unwrap()
}

/// No template says anything.
fn bare(spec: &mut PipelineSpec) {
    spec.pod_template = PodTemplateSpec::default();
    spec.processor.pod_template = PodTemplateSpec::default();
    spec.producer.pod_template = PodTemplateSpec::default();
    for target in &mut spec.targets {
        target.migration.pod_template = PodTemplateSpec::default();
    }
}

#[test]
fn what_a_component_says_goes_over_what_is_said_of_all_pods() {
    let pod = full().spec.processor_pod().template;
    assert_eq!(pod.labels["example.com/part-of"], "shop");
    assert_eq!(pod.labels["example.com/step"], "processor");
    assert_eq!(pod.annotations["example.com/owner"], "streaming");
    assert_eq!(pod.env[0], json!({ "name": "HTTPS_PROXY", "value": "" }));
    assert_eq!(pod.env.len(), 5);
    assert_eq!(pod.env_from.len(), 3);
    let tmp = pod.volumes.iter().find(|volume| volume["name"] == "tmp");
    assert_eq!(tmp.unwrap()["emptyDir"], json!({ "sizeLimit": "64Mi" }));
    assert_eq!(pod.volume_mounts.len(), 3);
    let context = pod.security_context.unwrap();
    assert_eq!(
        (&context["runAsUser"], &context["fsGroup"]),
        (&json!(2000), &json!(1000))
    );
    assert_eq!(pod.affinity, Some(json!({ "podAffinity": {} })));
    assert_eq!(pod.tolerations[0]["operator"], "Equal");
    assert_eq!(pod.priority_class_name.as_deref(), Some("highest"));
    let dns = pod.dns_config.unwrap();
    assert_eq!(dns["options"], json!([{ "name": "edns0" }]));
    assert_eq!(dns["nameservers"], json!(["10.0.0.53"]));
}

#[test]
fn the_fields_of_before_are_a_template_below_the_components_own() {
    let pod = full().spec.processor_pod().template;
    assert_eq!(pod.labels["example.com/cost-center"], "web");
    let secrets = pod.image_pull_secrets.iter().map(|it| it.name.as_str());
    assert_eq!(
        secrets.collect::<Vec<_>>(),
        ["shared", "registry", "mirror", "processor"]
    );
    let mut spec = minimal().spec;
    spec.processor.labels = [("team".to_owned(), "web".to_owned())].into();
    spec.processor.priority_class_name = Some("high".to_owned());
    spec.pod_template =
        template(json!({ "labels": { "team": "all" }, "priorityClassName": "low" }));
    let before = spec.processor_pod().template;
    assert_eq!(before.labels["team"], "web");
    assert_eq!(before.priority_class_name.as_deref(), Some("high"));
    spec.producer.labels = [("team".to_owned(), "trials".to_owned())].into();
    assert_eq!(spec.producer_pod().template.labels["team"], "trials");
    // moving a field to where it stands now changes no pod, those of migrations neither
    let mut moved = spec.clone();
    moved.processor.pod_template = spec.processor.former_template();
    moved.processor.labels.clear();
    moved.processor.priority_class_name = None;
    assert_eq!(moved.processor_pod(), spec.processor_pod());
    let target = &spec.targets[0];
    assert_eq!(moved.migration_pod(target), spec.migration_pod(target));
}

#[test]
fn migrations_run_as_processors_do_unless_theirs_say_otherwise() {
    let spec = full().spec;
    let (own, like) = (&spec.targets[0], &spec.targets[1]);
    assert_eq!(spec.migration_pod(like), spec.processor_pod());
    let pod = spec.migration_pod(own);
    assert_eq!(pod.resources, spec.processor.resources.as_ref());
    assert_eq!(
        pod.template.service_account_name.as_deref(),
        Some("migrator")
    );
    assert_eq!(pod.template.labels["example.com/part-of"], "shop");
    assert_eq!(pod.template.labels["example.com/step"], "migration");
    assert_eq!(pod.template.priority_class_name.as_deref(), Some("jobs"));
}

#[test]
fn the_nearest_template_that_says_anything_about_the_account_counts_alone() {
    let spec = full().spec;
    let processor = spec.processor_pod().template;
    assert_eq!(processor.service_account_name.as_deref(), Some("processor"));
    assert_eq!(processor.service_account_annotations, BTreeMap::new());
    let annotated = template(json!({ "serviceAccountAnnotations": { "a": "b" } }));
    let named = template(json!({ "serviceAccountName": "n" }));
    assert_eq!(named.with(&annotated).service_account_name, None);
    let third = template(json!({ "labels": { "a": "b" } }));
    assert_eq!(
        named.with(&third).service_account_name.as_deref(),
        Some("n")
    );
}

fn any_template() -> impl Strategy<Value = PodTemplateSpec> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let map = || prop::collection::btree_map(key(), key(), 0..3);
    let keys = || prop::collection::btree_set(key(), 0..3);
    let name = || prop::option::of(key());
    let context = || prop::option::of(map());
    let flag = any::<bool>();
    (
        map(),
        keys(),
        keys(),
        name(),
        name(),
        context(),
        keys(),
        flag,
    )
        .prop_map(
            |(labels, env, mounts, class, account, context, secrets, annotated)| {
                let named = |keys: std::collections::BTreeSet<&str>, field: &str, value: &str| {
                    let all = keys
                        .iter()
                        .map(|key| json!({ field: key, "value": format!("{key}{value}") }));
                    all.collect::<Vec<_>>()
                };
                PodTemplateSpec {
                    labels: labels
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                    env: named(env.clone(), "name", class.unwrap_or("x")),
                    env_from: named(env, "prefix", "y"),
                    volume_mounts: named(mounts, "mountPath", account.unwrap_or("z")),
                    tolerations: class.iter().map(|class| json!({ "key": class })).collect(),
                    priority_class_name: class.map(ToOwned::to_owned),
                    service_account_name: account.filter(|_| !annotated).map(ToOwned::to_owned),
                    service_account_annotations: account
                        .filter(|_| annotated)
                        .map(|name| (name.to_owned(), name.to_owned()))
                        .into_iter()
                        .collect(),
                    security_context: context.map(|context| json!(context)),
                    image_pull_secrets: secrets
                        .iter()
                        .map(|name| PullSecretSpec {
                            name: (*name).to_owned(),
                        })
                        .collect(),
                    ..PodTemplateSpec::default()
                }
            },
        )
}

proptest! {
    #[test]
    fn it_does_not_matter_which_templates_are_put_together_first(
        a in any_template(), b in any_template(), c in any_template(),
    ) {
        prop_assert_eq!(a.with(&b).with(&c), a.with(&b.with(&c)));
    }

    #[test]
    fn a_template_over_itself_or_over_nothing_is_itself(a in any_template()) {
        let nothing = PodTemplateSpec::default();
        prop_assert_eq!(&a.with(&a), &a);
        prop_assert_eq!(&a.with(&nothing), &a);
        prop_assert_eq!(&nothing.with(&a), &a);
    }
}

type Place = fn(&mut PipelineSpec) -> &mut PodTemplateSpec;

/// Each of these is refused at this path below a template, in every place that has one.
#[test]
fn what_the_operator_sets_and_what_would_loosen_a_pod_is_refused_by_its_field() {
    let variable = |name: &str| json!({ "env": [{ "name": name, "value": "" }] });
    let mount = |path: &str| {
        json!({
            "volumes": [{ "name": "v", "emptyDir": {} }],
            "volumeMounts": [{ "name": "v", "mountPath": path }],
        })
    };
    let volume = |name: &str| json!({ "volumes": [{ "name": name, "emptyDir": {} }] });
    let from = |prefix: &str| json!({ "envFrom": [{ "prefix": prefix, "configMapRef": { "name": "a" } }] });
    let long = |count: usize| -> Value {
        let entries = (0..count).map(|i| (format!("k{i}"), json!("v".repeat(8_192))));
        Value::Object(entries.collect())
    };
    let annotation = |key: &str| json!({ "annotations": { key: "unconfined" } });
    let pod = |context: Value| json!({ "securityContext": context });
    let container = |context: Value| json!({ "containerSecurityContext": context });
    let mut refused = vec![
        (
            "labels.app.kubernetes.io/name",
            json!({ "labels": { "app.kubernetes.io/name": "x" } }),
        ),
        (
            "labels.clickstream.dev/target",
            json!({ "labels": { "clickstream.dev/target": "x" } }),
        ),
        // Kubernetes sets these on the pods of Jobs, and refuses a Job that sets them otherwise
        ("labels.job-name", json!({ "labels": { "job-name": "x" } })),
        (
            "labels.controller-uid",
            json!({ "labels": { "controller-uid": "x" } }),
        ),
        (
            "labels.batch.kubernetes.io/job-name",
            json!({ "labels": { "batch.kubernetes.io/job-name": "x" } }),
        ),
        // each is short enough, and all of them are not
        ("annotations", json!({ "annotations": long(32) })),
        (
            "serviceAccountAnnotations",
            json!({ "serviceAccountAnnotations": long(32) }),
        ),
        (
            "annotations.clickstream.dev/config-hash",
            json!({ "annotations": { "clickstream.dev/config-hash": "x" } }),
        ),
        // a security context by another name
        (
            "annotations.container.apparmor.security.beta.kubernetes.io/processor",
            annotation("container.apparmor.security.beta.kubernetes.io/processor"),
        ),
        (
            "annotations.seccomp.security.alpha.kubernetes.io/pod",
            annotation("seccomp.security.alpha.kubernetes.io/pod"),
        ),
        (
            "annotations.container.seccomp.security.alpha.kubernetes.io/processor",
            annotation("container.seccomp.security.alpha.kubernetes.io/processor"),
        ),
        (
            "serviceAccountAnnotations.clickstream.dev/a",
            json!({ "serviceAccountAnnotations": { "clickstream.dev/a": "x" } }),
        ),
        (
            "serviceAccountAnnotations",
            json!({ "serviceAccountName": "a", "serviceAccountAnnotations": { "b": "c" } }),
        ),
        ("serviceAccountName", json!({ "serviceAccountName": "A" })),
        ("runtimeClassName", json!({ "runtimeClassName": "" })),
        ("schedulerName", json!({ "schedulerName": "a_b" })),
        ("env[0].name", variable("CLICKSTREAM_TARGET")),
        ("env[0].name", variable("CLICKSTREAM_TEST_STUCK_MS")),
        ("env[0].name", variable("1A")),
        ("env[0].name", variable("")),
        (
            "env[1].name",
            json!({ "env": [{ "name": "A" }, { "name": "A" }] }),
        ),
        (
            "env[0].value",
            json!({ "env": [{ "name": "A", "value": 1 }] }),
        ),
        (
            "env[0].valueFrom",
            json!({ "env": [{ "name": "A", "value": "", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] }),
        ),
        (
            "env[0].valueFrom.fieldRef.fieldPath",
            json!({ "env": [{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "foo" } } }] }),
        ),
        (
            "env[0].valueFrom.fieldRef.fieldPath",
            json!({ "env": [{ "name": "A", "valueFrom": { "fieldRef": {} } }] }),
        ),
        (
            "env[0].valueFrom",
            json!({ "env": [{ "name": "A", "valueFrom": {} }] }),
        ),
        (
            "env[0].form",
            json!({ "env": [{ "name": "A", "form": "" }] }),
        ),
        ("envFrom[0]", json!({ "envFrom": [{ "prefix": "A_" }] })),
        (
            "envFrom[0].prefix",
            json!({ "envFrom": [{ "prefix": "CLICKSTREAM_", "secretRef": { "name": "a" } }] }),
        ),
        // its keys could be any of the operator's variables, or the rest of their names
        (
            "envFrom[0].prefix",
            json!({ "envFrom": [{ "secretRef": { "name": "a" } }] }),
        ),
        ("envFrom[0].prefix", from("")),
        ("envFrom[0].prefix", from("C")),
        ("envFrom[0].prefix", from("CLICKSTREAM")),
        ("envFrom[0].prefix", from("CLICKSTREAM_BOOTSTRAP_")),
        (
            "envFrom[0].prefix",
            json!({ "envFrom": [{ "prefix": 1, "secretRef": { "name": "a" } }] }),
        ),
        ("volumes[0].name", volume("pipeline")),
        ("volumes[0].name", volume("secret-0")),
        ("volumes[0].name", volume("secret-12")),
        ("volumes[0].name", volume("A")),
        (
            "volumes[0].hostPath",
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
        ),
        ("volumes[0]", json!({ "volumes": [{ "name": "v" }] })),
        (
            "volumes[0]",
            json!({ "volumes": [{ "name": "v", "emptyDir": {}, "secret": {} }] }),
        ),
        (
            "volumes[1].name",
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }, { "name": "v", "emptyDir": {} }] }),
        ),
        (
            "volumeMounts[0].name",
            json!({ "volumeMounts": [{ "name": "w", "mountPath": "/w" }] }),
        ),
        (
            "volumeMounts[0].subPath",
            json!({
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "subPath": "../a" }],
            }),
        ),
        (
            "volumeMounts[0].subPath",
            json!({
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "subPath": "/abs" }],
            }),
        ),
        ("securityContext.runAsUser", pod(json!({ "runAsUser": 0 }))),
        (
            "securityContext.runAsNonRoot",
            pod(json!({ "runAsNonRoot": false })),
        ),
        (
            "securityContext.seccompProfile",
            pod(json!({ "seccompProfile": { "type": "Unconfined" } })),
        ),
        (
            "securityContext.seLinuxOptions.type",
            pod(json!({ "seLinuxOptions": { "type": "spc_t" } })),
        ),
        (
            "securityContext.seLinuxOptions.user",
            pod(json!({ "seLinuxOptions": { "user": "system_u" } })),
        ),
        (
            "securityContext.seLinuxOptions.level",
            pod(json!({ "seLinuxOptions": { "level": 1 } })),
        ),
        (
            "containerSecurityContext.seLinuxOptions.type",
            container(json!({ "seLinuxOptions": { "type": "", "level": "s0" } })),
        ),
        (
            "containerSecurityContext.seLinuxOptions.role",
            container(json!({ "seLinuxOptions": { "role": "sysadm_r" } })),
        ),
        ("securityContext.sysctls", pod(json!({ "sysctls": [] }))),
        (
            "securityContext.windowsOptions",
            pod(json!({ "windowsOptions": { "hostProcess": true } })),
        ),
        (
            "containerSecurityContext.privileged",
            container(json!({ "privileged": true })),
        ),
        (
            "containerSecurityContext.allowPrivilegeEscalation",
            container(json!({ "allowPrivilegeEscalation": true })),
        ),
        (
            "containerSecurityContext.capabilities",
            container(json!({ "capabilities": { "add": ["NET_ADMIN"] } })),
        ),
        (
            "containerSecurityContext.readOnlyRootFilesystem",
            container(json!({ "readOnlyRootFilesystem": false })),
        ),
        (
            "containerSecurityContext.procMount",
            container(json!({ "procMount": "Unmasked" })),
        ),
        ("affinity", json!({ "affinity": [] })),
        (
            "hostAliases[0].ip",
            json!({ "hostAliases": [{ "ip": "10.0.0" }] }),
        ),
        (
            "hostAliases[0].ip",
            json!({ "hostAliases": [{ "hostnames": ["a"] }] }),
        ),
        (
            "hostAliases[1].ip",
            json!({ "hostAliases": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.1" }] }),
        ),
        ("dnsConfig", json!({ "dnsConfig": "x" })),
    ];
    for path in [
        "/",
        "/etc",
        "/etc/clickstream",
        "/etc/clickstream/secrets/pg",
        "/dev/termination-log",
        "/proc",
        "/sys/fs",
        "/clickstream-processor",
        "relative",
        "/a/../etc/clickstream",
        "/a//b",
        "/a/",
        "/a:b",
        "",
    ] {
        refused.push(("volumeMounts[0].mountPath", mount(path)));
    }
    for (path, value) in refused {
        let value = template(value);
        let set: [(&str, Place); 4] = [
            ("spec.podTemplate", |spec| &mut spec.pod_template),
            ("spec.processor.podTemplate", |spec| {
                &mut spec.processor.pod_template
            }),
            ("spec.producer.podTemplate", |spec| {
                &mut spec.producer.pod_template
            }),
            ("spec.targets[0].migration.podTemplate", |spec| {
                &mut spec.targets[0].migration.pod_template
            }),
        ];
        for (place, at) in set {
            let expected = format!("{place}.{path}");
            problems(
                |p| {
                    bare(&mut p.spec);
                    *at(&mut p.spec) = value.clone();
                },
                &[&expected],
            );
        }
    }
}

#[test]
fn the_page_about_pods_names_every_path_that_no_mount_may_take() {
    let below: Vec<_> = TAKEN.iter().map(|path| format!("`{path}`")).collect();
    let said = format!(
        "Nothing is mounted at `{FOLDER}` itself, at a path that begins with `{PROGRAMS}`, nor at or below {}.",
        below.join(", ")
    );
    let page = include_str!("../../../../../docs/pods.md");
    assert!(page.contains(&said), "docs/pods.md does not say: {said}");
}

#[test]
fn what_is_near_to_the_operators_is_taken() {
    let taken = template(json!({
        "env": [{ "name": "CLICKSTREAM" }, { "name": "_A.b-c", "value": "d" }],
        "envFrom": [{ "prefix": "CLICKS_", "secretRef": { "name": "a" } }, { "prefix": "c", "secretRef": { "name": "b" } }],
        "securityContext": { "seLinuxOptions": { "type": "container_kvm_t", "level": "s0:c1" } },
        "volumes": [{ "name": "secret-a", "emptyDir": {} }, { "name": "pipeline-2", "emptyDir": {} }],
        "volumeMounts": [
            { "name": "secret-a", "mountPath": "/etc/ssl/certs" }, { "name": "pipeline-2", "mountPath": "/etc/clickstream2" },
            { "name": "pipeline-2", "mountPath": "/clickstream" }, { "name": "secret-a", "mountPath": "/device", "subPath": "a..b" },
        ],
    }));
    problems(
        |p| {
            bare(&mut p.spec);
            p.spec.pod_template = taken;
        },
        &[],
    );
}

#[test]
fn a_component_may_mount_a_volume_of_all_pods_and_not_the_other_way_round() {
    let volume = template(json!({ "volumes": [{ "name": "ca", "configMap": { "name": "ca" } }] }));
    let mount = template(json!({ "volumeMounts": [{ "name": "ca", "mountPath": "/ca" }] }));
    problems(
        |p| {
            bare(&mut p.spec);
            p.spec.pod_template = volume.clone();
            p.spec.producer.pod_template = mount.clone();
            p.spec.targets[0].migration.pod_template = mount.clone();
        },
        &[],
    );
    problems(
        |p| {
            bare(&mut p.spec);
            p.spec.processor.pod_template = volume.clone();
            p.spec.targets[0].migration.pod_template = mount.clone();
        },
        &[],
    );
    problems(
        |p| {
            bare(&mut p.spec);
            p.spec.processor.pod_template = volume.clone();
            p.spec.pod_template = mount.clone();
        },
        &["spec.podTemplate.volumeMounts[0].name"],
    );
}

#[test]
fn every_recipe_is_a_part_of_a_spec_that_is_valid() {
    let page = include_str!("../../../../../docs/pods.md");
    let recipes: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(recipes.len(), 7);
    for recipe in recipes {
        let recipe = recipe.replace('\n', "\n  ");
        let text = format!("{MINIMAL}  {recipe}");
        let pipeline = ClickstreamPipeline::from_yaml(&text)
            .unwrap_or_else(|error| panic!("{error}:\n{text}"));
        assert_eq!(pipeline.validate(), Ok(()), "{text}");
        assert!(!pipeline.spec.pod_template.is_default(), "{text}");
    }
}
