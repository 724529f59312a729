//! What `podTemplate` says, on every pod that the operator makes, beside what the operator says
//! itself.

use super::*;

/// Everything that a template may say.
fn full() -> Value {
    let document: Value = serde_yaml::from_str(include_str!(
        "../../../../../services/pipeline/src/spec/tests/full.yaml"
    ))
    .unwrap();
    document["spec"]["podTemplate"].clone()
}

fn with_template(template: &Value) -> ValidatedPipeline {
    pipeline(|document| document["spec"]["podTemplate"] = template.clone())
}

/// All children with pods, by their component, and those of a removal.
fn pods(pipeline: &ValidatedPipeline) -> Vec<(String, Child)> {
    let mut all = children(pipeline);
    let target_spec = &pipeline.document.spec.targets[0];
    all.extend(removal(pipeline, target_spec, &settings()));
    all.retain(|child| matches!(child.kind, Kind::Deployment | Kind::Job));
    let component =
        |child: &Child| child.body["metadata"]["labels"]["app.kubernetes.io/component"].clone();
    let name = |child: &Child| component(child).as_str().unwrap().to_owned();
    all.into_iter().map(|child| (name(&child), child)).collect()
}

/// Whether all of one list stands in another.
fn has_all(list: &Value, wanted: &Value) -> bool {
    let list = list.as_array().unwrap();
    wanted
        .as_array()
        .unwrap()
        .iter()
        .all(|it| list.contains(it))
}

#[test]
fn every_pod_has_all_that_the_template_of_all_pods_says() {
    let said = full();
    let all = pods(&with_template(&said));
    assert_eq!(all.len(), 4);
    for (component, child) in all {
        match child.kind {
            Kind::Job => is_whole::<Job>(&child),
            _ => is_whole::<Deployment>(&child),
        }
        let template = &child.body["spec"]["template"];
        let (spec, container) = (&template["spec"], &template["spec"]["containers"][0]);
        for part in ["labels", "annotations"] {
            for (key, value) in said[part].as_object().unwrap() {
                assert_eq!(&template["metadata"][part][key], value, "{component}");
            }
        }
        for field in [
            "nodeSelector",
            "tolerations",
            "affinity",
            "topologySpreadConstraints",
            "priorityClassName",
            "runtimeClassName",
            "schedulerName",
            "hostAliases",
            "dnsConfig",
        ] {
            assert_eq!(spec[field], said[field], "{component} {field}");
        }
        assert!(has_all(&spec["volumes"], &said["volumes"]));
        assert!(has_all(
            &spec["imagePullSecrets"],
            &said["imagePullSecrets"]
        ));
        assert!(has_all(&container["volumeMounts"], &said["volumeMounts"]));
        assert!(has_all(&container["env"], &said["env"]), "{container}");
        assert_eq!(container["envFrom"], said["envFrom"]);
        for (at, field) in [
            (spec, "securityContext"),
            (container, "containerSecurityContext"),
        ] {
            for (key, value) in said[field].as_object().unwrap() {
                assert_eq!(&at["securityContext"][key], value, "{component} {field}");
            }
        }
        // what the operator says stays
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(spec["volumes"][0]["name"], "pipeline");
        // processors read theirs again, for which it has to be in a folder
        let document = match component.as_str() {
            "processor" => "/etc/clickstream/pipeline/pipeline.yaml",
            _ => "/etc/clickstream/pipeline.yaml",
        };
        let ours = json!({ "name": "CLICKSTREAM_PIPELINE", "value": document });
        assert!(container["env"].as_array().unwrap().contains(&ours));
    }
}

#[test]
fn selectors_of_children_hold_whatever_a_template_says() {
    let pipeline = with_template(&full());
    for child in children(&pipeline) {
        let template = &child.body["spec"]["template"]["metadata"]["labels"];
        let ours = labels_of(&child);
        if child.kind == Kind::Deployment {
            for (key, value) in ours {
                assert_eq!(template[&key], value, "{key}");
            }
        }
    }
    for key in ["app.kubernetes.io/name", "clickstream.dev/target"] {
        let mut document: Value = serde_yaml::from_str(MINIMAL).unwrap();
        document["spec"]["podTemplate"] = json!({ "labels": { key: "x" } });
        let resource: ClickstreamPipeline = serde_json::from_value(document).unwrap();
        let Err(problems) = validate(&resource) else {
            panic!("{key} is taken");
        };
        assert_eq!(problems[0].path, format!("spec.podTemplate.labels.{key}"));
    }
}

fn labels_of(child: &Child) -> serde_json::Map<String, Value> {
    child.body["metadata"]["labels"]
        .as_object()
        .unwrap()
        .clone()
}

#[test]
fn an_account_is_annotated_where_the_operator_makes_it_and_rolls_the_pods() {
    let role =
        |role: &str| with_template(&json!({ "serviceAccountAnnotations": { "role": role } }));
    let accounts = |pipeline: &ValidatedPipeline| -> Vec<Child> {
        let all = children(pipeline).into_iter();
        all.filter(|child| child.kind == Kind::ServiceAccount)
            .collect()
    };
    let pipeline_with = role("a");
    let made = accounts(&pipeline_with);
    assert_eq!(made.len(), 3, "processors, producers, migrations");
    for account in &made {
        is_whole::<ServiceAccount>(account);
        assert_eq!(
            account.body["metadata"]["annotations"],
            json!({ "role": "a" })
        );
        assert_eq!(account.body["automountServiceAccountToken"], false);
    }
    for ((component, one), (_, another)) in pods(&pipeline_with).iter().zip(&pods(&role("b"))) {
        let account = &one.body["spec"]["template"]["spec"]["serviceAccountName"];
        assert!(made.iter().any(|made| *account == made.name), "{component}");
        assert_ne!(template_hash(one), template_hash(another), "{component}");
    }
    // without annotations migrations have none of their own, as before
    assert_eq!(accounts(&pipeline(|_| {})).len(), 2);
    let named = with_template(&json!({ "serviceAccountName": "shared" }));
    for (component, child) in pods(&named) {
        let account = &child.body["spec"]["template"]["spec"]["serviceAccountName"];
        assert_eq!(account, "shared", "{component}");
    }
}

#[test]
fn a_template_alone_migrates_nothing_and_gives_a_migration_that_failed_another_attempt() {
    let of = |pipeline: &ValidatedPipeline| {
        let target_spec = &pipeline.document.spec.targets[0];
        (
            migration_hash(pipeline, target_spec, &settings()),
            migration_inputs(pipeline, target_spec),
        )
    };
    let (hash, inputs) = of(&pipeline(|_| {}));
    let env = json!({ "env": [{ "name": "A", "value": "b" }] });
    for part in ["spec", "processor", "migration"] {
        let changed = pipeline(|document| match part {
            "spec" => document["spec"]["podTemplate"] = env.clone(),
            "processor" => document["spec"]["processor"] = json!({ "podTemplate": env }),
            _ => document["spec"]["targets"][0]["migration"] = json!({ "podTemplate": env }),
        });
        let (same, others) = of(&changed);
        assert_eq!(hash, same, "{part}");
        assert_ne!(inputs, others, "{part}");
    }
    let producers = pipeline(|document| document["spec"]["producer"]["podTemplate"] = env.clone());
    assert_eq!((hash, inputs), of(&producers));
}

#[test]
fn pods_name_themselves_in_spans_that_a_template_sends_somewhere() {
    let env = json!([
        { "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://own:4319" },
        { "name": "OTEL_RESOURCE_ATTRIBUTES", "value": "env=own" },
    ]);
    let pipeline = with_template(&json!({ "env": env }));
    let mut handed = settings();
    handed.tracing = vec![
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            "http://c:4318".to_owned(),
        ),
        ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "env=all".to_owned()),
        ("OTEL_TRACES_SAMPLER".to_owned(), "always_on".to_owned()),
    ];
    for (settings, attributes) in [(settings(), "env=own"), (handed, "env=all,env=own")] {
        let target_spec = &pipeline.document.spec.targets[0];
        let made = target(&pipeline, target_spec, &settings, &[]);
        let env = &made.deployment.body["spec"]["template"]["spec"]["containers"][0]["env"];
        let found = |name: &str| -> Vec<&Value> {
            let all = env.as_array().unwrap().iter();
            all.filter(|variable| variable["name"] == name).collect()
        };
        let endpoint = found("OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(endpoint.len(), 1);
        assert_eq!(endpoint[0]["value"], "http://own:4319");
        let own = found("OTEL_RESOURCE_ATTRIBUTES");
        assert_eq!(own.len(), 1);
        let value = own[0]["value"].as_str().unwrap();
        assert!(
            value.starts_with(&format!("{attributes},k8s.namespace.name=")),
            "{value}"
        );
        assert_eq!(found("POD_NAME").len(), 1);
        // and may go there
        let policy = made
            .around
            .iter()
            .find(|child| child.kind == Kind::NetworkPolicy);
        let policy = policy.unwrap().body.to_string();
        assert!(
            policy.contains("4319") && !policy.contains("4318"),
            "{policy}"
        );
    }
}
