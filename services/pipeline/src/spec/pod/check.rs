//! The rules of a template: what the operator sets by itself stays as it is, and no pod becomes
//! less restricted. The API server holds the same rules; what else a pod may not have, it refuses
//! with the Deployment.

use serde_json::{Map, Value};

use super::{
    OBJECT_RULE, OF_JOBS, PodTemplateSpec, at_most, check_annotations, check_labels, check_objects,
    check_pull_secrets,
};
use crate::spec::secret::{is_dns_label, is_dns_subdomain};
use crate::spec::validate::At;

/// Most environment variables of a template.
const MOST_VARIABLES: usize = 64;
const SUBDOMAIN_RULE: &str = "use lowercase letters, digits, `-` and `.`, at most 253 characters";
const ALIKE: &str = "listed twice; remove one";
const RESTRICTED: &str = "pods stay restricted, and nothing in them needs more: leave it out";
/// Annotations that are a security context by another name: their values can be any profile, or
/// none. Container runtimes and older kubelets go by them.
const LOOSENING: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];
/// The paths that are mounted over by nobody, with what is below: what the operator mounts, and the
/// system's.
pub(in crate::spec) const TAKEN: [&str; 4] = ["/etc/clickstream", "/dev", "/proc", "/sys"];
/// What the programs' paths begin with.
pub(in crate::spec) const PROGRAMS: &str = "/clickstream-";
/// Taken, and what is below is not.
pub(in crate::spec) const FOLDER: &str = "/etc";
/// What the names of the operator's variables begin with.
const OURS: &str = "CLICKSTREAM_";
/// Types of SELinux under which a container is confined: those that the Pod Security Standards
/// leave to a pod.
const CONFINED: [&str; 4] = [
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const PROFILES: [&str; 2] = ["RuntimeDefault", "Localhost"];
const OF_POD: [&str; 9] = [
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "fsGroup",
    "fsGroupChangePolicy",
    "supplementalGroups",
    "seccompProfile",
    "appArmorProfile",
    "seLinuxOptions",
];
const OF_CONTAINER: [&str; 10] = [
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "seccompProfile",
    "appArmorProfile",
    "seLinuxOptions",
    "allowPrivilegeEscalation",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
];

impl PodTemplateSpec {
    pub(in crate::spec) fn check(&self, at: &mut At<'_>) {
        check_labels(&self.labels, true, &mut at.field("labels"));
        for key in OF_JOBS {
            if self.labels.contains_key(key) {
                at.field("labels")
                    .field(key)
                    .problem("Kubernetes sets this one on the pods of Jobs: choose another key");
            }
        }
        check_annotations(&self.annotations, &mut at.field("annotations"));
        for key in self.annotations.keys() {
            if LOOSENING.iter().any(|prefix| key.starts_with(prefix)) {
                at.field("annotations").field(key).problem(
                    "pods stay restricted: write seccompProfile or appArmorProfile of containerSecurityContext instead",
                );
            }
        }
        check_annotations(
            &self.service_account_annotations,
            &mut at.field("serviceAccountAnnotations"),
        );
        if self.service_account_name.is_some() && !self.service_account_annotations.is_empty() {
            at.field("serviceAccountAnnotations").problem(
                "these are for the ServiceAccount that the operator makes: annotate the one that serviceAccountName names, or remove that field",
            );
        }
        for (field, name) in [
            ("serviceAccountName", &self.service_account_name),
            ("priorityClassName", &self.priority_class_name),
            ("runtimeClassName", &self.runtime_class_name),
            ("schedulerName", &self.scheduler_name),
        ] {
            if name.as_ref().is_some_and(|name| !is_dns_subdomain(name)) {
                at.field(field).problem(SUBDOMAIN_RULE);
            }
        }
        check_security(
            self.security_context.as_ref(),
            &OF_POD,
            &mut at.field("securityContext"),
        );
        check_security(
            self.container_security_context.as_ref(),
            &OF_CONTAINER,
            &mut at.field("containerSecurityContext"),
        );
        check_env(&self.env, &mut at.field("env"));
        check_env_from(&self.env_from, &mut at.field("envFrom"));
        check_volumes(&self.volumes, &mut at.field("volumes"));
        check_mounts(&self.volume_mounts, &mut at.field("volumeMounts"));
        check_labels(&self.node_selector, false, &mut at.field("nodeSelector"));
        check_objects(&self.tolerations, &mut at.field("tolerations"));
        check_object(self.affinity.as_ref(), &mut at.field("affinity"));
        check_objects(
            &self.topology_spread_constraints,
            &mut at.field("topologySpreadConstraints"),
        );
        check_pull_secrets(&self.image_pull_secrets, &mut at.field("imagePullSecrets"));
        let mut aliases = at.field("hostAliases");
        check_objects(&self.host_aliases, &mut aliases);
        unique(&self.host_aliases, "ip", &mut aliases);
        for (index, alias) in self.host_aliases.iter().enumerate() {
            if alias.is_object() && !alias["ip"].as_str().is_some_and(is_address) {
                aliases
                    .index(index)
                    .field("ip")
                    .problem("write an address such as 10.0.0.1 or 2001:db8::1");
            }
        }
        check_object(self.dns_config.as_ref(), &mut at.field("dnsConfig"));
    }

    /// Each mount needs a volume, here or in one of the templates that this one goes over.
    pub(in crate::spec) fn check_mounted(&self, below: &[&Self], at: &mut At<'_>) {
        let mut at = at.field("volumeMounts");
        for (index, mount) in self.volume_mounts.iter().enumerate() {
            let templates = below.iter().copied().chain([self]);
            let mut volumes = templates.flat_map(|template| &template.volumes);
            if !volumes.any(|volume| volume["name"] == mount["name"]) {
                at.index(index)
                    .field("name")
                    .problem("no such volume: add it under volumes, here or in spec.podTemplate");
            }
        }
    }
}

fn check_object(value: Option<&Value>, at: &mut At<'_>) {
    if value.is_some_and(|value| !value.is_object()) {
        at.problem(OBJECT_RULE);
    }
}

/// The fields of a mapping, if all of them are known.
fn known<'v>(value: &'v Value, names: &[&str], at: &mut At<'_>) -> Option<&'v Map<String, Value>> {
    let Some(fields) = value.as_object() else {
        at.problem(OBJECT_RULE);
        return None;
    };
    let mut all = true;
    for key in fields.keys().filter(|key| !names.contains(&key.as_str())) {
        let names = names.join(", ");
        at.field(key)
            .problem(format!("unknown field, expected one of {names}"));
        all = false;
    }
    all.then_some(fields)
}

/// Exactly one of several fields.
fn one_of(fields: &Map<String, Value>, names: &[&str], at: &mut At<'_>) {
    let given = names.iter().filter(|name| fields.contains_key(**name));
    if given.count() != 1 {
        at.problem(format!("give exactly one of {}", names.join(", ")));
    }
}

fn text<'v>(fields: &'v Map<String, Value>, name: &str) -> &'v str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn unique(values: &[Value], key: &str, at: &mut At<'_>) {
    for (index, value) in values.iter().enumerate() {
        if values[..index].iter().any(|it| it[key] == value[key]) {
            at.index(index).field(key).problem(ALIKE);
        }
    }
}

fn check_security(context: Option<&Value>, names: &[&str], at: &mut At<'_>) {
    let Some(context) = context else { return };
    let Some(fields) = context.as_object() else {
        return at.problem(OBJECT_RULE);
    };
    for (key, value) in fields {
        let mut at = at.field(key);
        if !names.contains(&key.as_str()) {
            at.problem(RESTRICTED);
            continue;
        }
        let is_id = |least: i64, value: &Value| {
            let id = value.as_i64();
            id.is_some_and(|id| (least..=i64::from(i32::MAX)).contains(&id))
        };
        let is_profile = || PROFILES.contains(&value["type"].as_str().unwrap_or_default());
        let problem = match key.as_str() {
            "runAsUser" if !is_id(1, value) => "give the number of a user who is not root",
            "runAsGroup" | "fsGroup" if !is_id(0, value) => "give the number of a group",
            "supplementalGroups"
                if !value
                    .as_array()
                    .is_some_and(|all| all.len() <= 32 && all.iter().all(|id| is_id(0, id))) =>
            {
                "list at most 32 numbers of groups"
            }
            "fsGroupChangePolicy" if value != "OnRootMismatch" && value != "Always" => {
                "write OnRootMismatch or Always"
            }
            "seccompProfile" | "appArmorProfile" if !is_profile() => {
                "give it a type: RuntimeDefault or Localhost"
            }
            "seLinuxOptions" => {
                check_selinux(value, &mut at);
                continue;
            }
            "runAsNonRoot" | "readOnlyRootFilesystem" if value != &Value::Bool(true) => RESTRICTED,
            "allowPrivilegeEscalation" | "privileged" if value != &Value::Bool(false) => RESTRICTED,
            "capabilities" if value != &serde_json::json!({ "drop": ["ALL"] }) => RESTRICTED,
            _ => continue,
        };
        at.problem(problem);
    }
}

fn check_selinux(options: &Value, at: &mut At<'_>) {
    let Some(fields) = options.as_object() else {
        return at.problem(OBJECT_RULE);
    };
    for (key, value) in fields {
        let text = value.as_str();
        let problem = match key.as_str() {
            "level" if text.is_none_or(|level| level.chars().count() > 253) => {
                "write a text of at most 253 characters"
            }
            "type" if text.is_none_or(|name| !CONFINED.contains(&name)) => {
                "pods stay confined: write container_t, container_init_t, container_kvm_t or container_engine_t, or leave it out"
            }
            "level" | "type" => continue,
            _ => RESTRICTED,
        };
        at.field(key).problem(problem);
    }
}

fn check_env(variables: &[Value], at: &mut At<'_>) {
    if variables.len() > MOST_VARIABLES {
        at.problem(format!("list at most {MOST_VARIABLES}"));
    }
    unique(variables, "name", at);
    for (index, variable) in variables.iter().enumerate() {
        let mut at = at.index(index);
        let Some(fields) = known(variable, &["name", "value", "valueFrom"], &mut at) else {
            continue;
        };
        check_variable(text(fields, "name"), &mut at.field("name"));
        if let Some(value) = fields.get("value")
            && value
                .as_str()
                .is_none_or(|value| value.chars().count() > 8192)
        {
            at.field("value")
                .problem("write a text of at most 8192 characters; a number needs quotes");
        }
        let Some(from) = fields.get("valueFrom") else {
            continue;
        };
        let mut at = at.field("valueFrom");
        if fields.contains_key("value") {
            at.problem("give either value or valueFrom");
        }
        let sources = [
            "configMapKeyRef",
            "secretKeyRef",
            "fieldRef",
            "resourceFieldRef",
        ];
        if let Some(fields) = known(from, &sources, &mut at) {
            one_of(fields, &sources, &mut at);
            if let Some(field) = fields.get("fieldRef") {
                check_field(field, &mut at.field("fieldRef"));
            }
        }
    }
}

/// Which fields there are, Kubernetes knows; none of them begins otherwise.
fn check_field(field: &Value, at: &mut At<'_>) {
    let path = field["fieldPath"].as_str().unwrap_or_default();
    let roots = ["metadata.", "spec.", "status."];
    if !roots.iter().any(|root| path.starts_with(root)) {
        at.field("fieldPath")
            .problem("name a field of a pod, such as metadata.name or status.podIP");
    }
}

fn check_env_from(sources: &[Value], at: &mut At<'_>) {
    at_most(sources.len(), at);
    for (index, source) in sources.iter().enumerate() {
        let mut at = at.index(index);
        let refs = ["configMapRef", "secretRef"];
        let Some(fields) = known(source, &["prefix", refs[0], refs[1]], &mut at) else {
            continue;
        };
        one_of(fields, &refs, &mut at);
        let prefix = text(fields, "prefix");
        let mut at = at.field("prefix");
        // whoever writes the ConfigMap or Secret chooses what follows the prefix
        if OURS.starts_with(prefix) || prefix.starts_with(OURS) {
            at.problem(
                "its keys could become CLICKSTREAM_ variables, which the operator sets itself: choose a prefix that is no beginning of this one, such as MORE_, or name single keys under env",
            );
        } else {
            check_variable(prefix, &mut at);
        }
    }
}

fn check_variable(name: &str, at: &mut At<'_>) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.starts_with(OURS) {
        at.problem("the operator sets CLICKSTREAM_ variables itself: choose another name");
    } else if name.len() > 253
        || !name.bytes().all(inner)
        || name.starts_with(|c: char| c.is_ascii_digit())
        || name.is_empty()
    {
        at.problem(
            "use letters, digits, `_`, `-` and `.`, not beginning with a digit, at most 253",
        );
    }
}

fn check_volumes(volumes: &[Value], at: &mut At<'_>) {
    const SOURCES: [&str; 5] = ["configMap", "secret", "projected", "emptyDir", "csi"];
    at_most(volumes.len(), at);
    unique(volumes, "name", at);
    for (index, volume) in volumes.iter().enumerate() {
        let mut at = at.index(index);
        let names = [&["name"], SOURCES.as_slice()].concat();
        let Some(fields) = known(volume, &names, &mut at) else {
            continue;
        };
        one_of(fields, &SOURCES, &mut at);
        for source in SOURCES {
            check_object(fields.get(source), &mut at.field(source));
        }
        let name = text(fields, "name");
        let number = name.strip_prefix("secret-").unwrap_or_default();
        let is_ours = name == "pipeline"
            || (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        let mut at = at.field("name");
        if is_ours {
            at.problem("the operator has a volume of this name: choose another one");
        } else if !is_dns_label(name, 63) {
            at.problem("use 1 to 63 lowercase letters, digits and inner `-`");
        }
    }
}

fn check_mounts(mounts: &[Value], at: &mut At<'_>) {
    at_most(mounts.len(), at);
    unique(mounts, "mountPath", at);
    for (index, mount) in mounts.iter().enumerate() {
        let mut at = at.index(index);
        let names = ["name", "mountPath", "subPath", "readOnly"];
        let Some(fields) = known(mount, &names, &mut at) else {
            continue;
        };
        let path = text(fields, "mountPath");
        let sub_path = text(fields, "subPath");
        if is_taken(path) {
            at.field("mountPath").problem(
                "there is what the operator mounts, the program, or the system: choose another path",
            );
        } else if !is_path(path) {
            at.field("mountPath")
                .problem("write a path from the root, without `.`, `..` and `:`");
        }
        let leaves = sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..");
        if sub_path.len() > 512 || leaves {
            at.field("subPath")
                .problem("write a path within the volume, without `/` before it and without `..`");
        }
    }
}

/// An address as Kubernetes takes it, which lets IPv4 have leading zeros.
fn is_address(text: &str) -> bool {
    let is_number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u8>().is_ok();
    let is_v4 = || text.split('.').count() == 4 && text.split('.').all(is_number);
    text.parse::<std::net::IpAddr>().is_ok() || is_v4()
}

fn is_path(path: &str) -> bool {
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(':');
    path.chars().count() <= 512
        && path
            .strip_prefix('/')
            .is_some_and(|path| path.split('/').all(is_name))
}

/// Whether a mount there would hide what the operator mounts, the program, or what the runtime
/// mounts.
fn is_taken(path: &str) -> bool {
    let is_at_or_below = |taken: &&str| {
        let rest = path.strip_prefix(*taken);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    path == FOLDER || path.starts_with(PROGRAMS) || TAKEN.iter().any(is_at_or_below)
}
