//! What a template may say in a pod's own terms, as schemas: less than a pod may have, with bounds,
//! and without the descriptions that `kubectl explain pod.spec` has.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{DNS_LABEL, DNS_SUBDOMAIN, PRINTABLE, Rule, SECRET_KEY, rules};

/// Letters, digits, `_`, `-` and `.`.
const VARIABLE: &str = r"^[-._A-Za-z][-._A-Za-z0-9]*$";
/// From the root, without empty parts.
const PATH: &str = r"^(/[^/:]+)+$";

fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn list(most: u32, key: Option<&str>, of_list: &[Rule], items: Value) -> Schema {
    let mut schema = json_schema!({ "type": "array", "maxItems": most, "items": items });
    if let Some(key) = key {
        schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
        schema.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
    }
    if !of_list.is_empty() {
        schema.insert("x-kubernetes-validations".to_owned(), rules(of_list));
    }
    schema
}

fn text(longest: u32) -> Value {
    json!({ "type": "string", "maxLength": longest })
}

fn formed(pattern: &str, longest: u32) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern })
}

fn number(least: i64, most: i64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn only(value: bool) -> Value {
    json!({ "type": "boolean", "enum": [value] })
}

fn choice(values: &[&str]) -> Value {
    json!({ "type": "string", "enum": values })
}

fn array(most: u32, items: Value) -> Value {
    json!({ "type": "array", "maxItems": most, "items": items })
}

fn profile() -> Value {
    object(
        &["type"],
        json!({ "type": choice(&["RuntimeDefault", "Localhost"]), "localhostProfile": text(512) }),
    )
}

/// What both contexts have.
fn security(more: Value) -> Schema {
    let mut properties = json!({
        "runAsUser": number(1, i32::MAX.into()),
        "runAsGroup": number(0, i32::MAX.into()),
        "runAsNonRoot": only(true),
        "seccompProfile": profile(),
        "appArmorProfile": profile(),
        // what the Pod Security Standards leave to a pod: under any other type, as under spc_t, it
        // is not confined
        "seLinuxOptions": object(&[], json!({
            "level": text(253),
            "type": choice(&["container_t", "container_init_t", "container_kvm_t", "container_engine_t"]),
        })),
    });
    if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
        all.extend(more);
    }
    json_schema!({ "type": "object", "properties": properties })
}

/// The security context of a pod, as far as it restricts.
pub(in crate::spec) fn security_of_pod(_: &mut SchemaGenerator) -> Schema {
    security(json!({
        "fsGroup": number(0, i32::MAX.into()),
        "fsGroupChangePolicy": choice(&["OnRootMismatch", "Always"]),
        "supplementalGroups": array(32, number(0, i32::MAX.into())),
    }))
}

/// The security context of a container, as far as it restricts.
pub(in crate::spec) fn security_of_container(_: &mut SchemaGenerator) -> Schema {
    let all = json!({ "type": "array", "minItems": 1, "maxItems": 1, "items": choice(&["ALL"]) });
    security(json!({
        "allowPrivilegeEscalation": only(false),
        "privileged": only(false),
        "readOnlyRootFilesystem": only(true),
        "capabilities": object(&["drop"], json!({ "drop": all })),
    }))
}

const OUR_VARIABLES: &str = "the operator sets CLICKSTREAM_ variables itself: choose another name";

/// Environment variables.
pub(in crate::spec) fn env(_: &mut SchemaGenerator) -> Schema {
    let of_list = [Rule {
        rule: "self.all(it, !it.name.startsWith('CLICKSTREAM_'))",
        message: OUR_VARIABLES,
        field: "",
    }];
    let of_variable = [Rule {
        rule: "!has(self.value) || !has(self.valueFrom)",
        message: "give either value or valueFrom",
        field: ".valueFrom",
    }];
    let of_source = [Rule {
        rule: "[has(self.configMapKeyRef), has(self.secretKeyRef), has(self.fieldRef), has(self.resourceFieldRef)].exists_one(it, it)",
        message: "give exactly one of configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef",
        field: "",
    }];
    let key = object(
        &["name", "key"],
        json!({ "name": formed(DNS_SUBDOMAIN, 253), "key": formed(SECRET_KEY, 253), "optional": flag() }),
    );
    let divisor = json!({ "x-kubernetes-int-or-string": true, "maxLength": 32 });
    let mut source = object(
        &[],
        json!({
            "configMapKeyRef": key,
            "secretKeyRef": key,
            "fieldRef": object(&["fieldPath"], json!({ "apiVersion": text(32), "fieldPath": text(512) })),
            "resourceFieldRef": object(&["resource"], json!({ "resource": text(253), "divisor": divisor })),
        }),
    );
    source["x-kubernetes-validations"] = rules(&of_source);
    let mut variable = object(
        &["name"],
        json!({ "name": formed(VARIABLE, 253), "value": text(8192), "valueFrom": source }),
    );
    variable["x-kubernetes-validations"] = rules(&of_variable);
    list(64, Some("name"), &of_list, variable)
}

/// Sources of environment variables.
pub(in crate::spec) fn env_from(_: &mut SchemaGenerator) -> Schema {
    let of_source = [
        Rule {
            rule: "has(self.configMapRef) != has(self.secretRef)",
            message: "give exactly one of configMapRef, secretRef",
            field: "",
        },
        // also where there is none, which is a beginning of everything
        Rule {
            rule: "has(self.prefix) && !self.prefix.startsWith('CLICKSTREAM_') && !'CLICKSTREAM_'.startsWith(self.prefix)",
            message: "its keys could become CLICKSTREAM_ variables, which the operator sets itself: choose a prefix that is no beginning of this one, such as MORE_, or name single keys under env",
            field: ".prefix",
        },
    ];
    let whole = object(
        &["name"],
        json!({ "name": formed(DNS_SUBDOMAIN, 253), "optional": flag() }),
    );
    let prefix = formed(VARIABLE, 253);
    let mut source = object(
        &[],
        json!({ "prefix": prefix, "configMapRef": whole, "secretRef": whole }),
    );
    source["x-kubernetes-validations"] = rules(&of_source);
    list(16, None, &[], source)
}

fn files() -> Value {
    let file = object(
        &["key", "path"],
        json!({ "key": formed(SECRET_KEY, 253), "path": formed(PRINTABLE, 512), "mode": mode() }),
    );
    array(64, file)
}

fn mode() -> Value {
    number(0, 0o777)
}

/// Volumes, of the kinds that a restricted pod may have.
pub(in crate::spec) fn volumes(_: &mut SchemaGenerator) -> Schema {
    let of_list = [Rule {
        rule: "self.all(it, !it.name.matches('^(pipeline|secret-[0-9]+)$'))",
        message: "the operator has a volume of this name: choose another one",
        field: "",
    }];
    let of_volume = [Rule {
        rule: "[has(self.configMap), has(self.secret), has(self.projected), has(self.emptyDir), has(self.csi)].exists_one(it, it)",
        message: "give exactly one of configMap, secret, projected, emptyDir, csi",
        field: "",
    }];
    let name = || formed(DNS_SUBDOMAIN, 253);
    let part = object(
        &["name"],
        json!({ "name": name(), "items": files(), "optional": flag() }),
    );
    let field = object(
        &["path", "fieldRef"],
        json!({
            "path": formed(PRINTABLE, 512),
            "fieldRef": object(&["fieldPath"], json!({ "apiVersion": text(32), "fieldPath": text(512) })),
            "mode": mode(),
        }),
    );
    let source = object(
        &[],
        json!({
            "configMap": part,
            "secret": part,
            "serviceAccountToken": object(&["path"], json!({
                "audience": text(512), "expirationSeconds": number(600, 4_294_967_296), "path": formed(PRINTABLE, 512),
            })),
            "downwardAPI": object(&[], json!({ "items": array(64, field) })),
        }),
    );
    let mut volume = object(
        &["name"],
        json!({
            "name": formed(DNS_LABEL, 63),
            "configMap": object(&["name"], json!({
                "name": name(), "items": files(), "optional": flag(), "defaultMode": mode(),
            })),
            "secret": object(&["secretName"], json!({
                "secretName": name(), "items": files(), "optional": flag(), "defaultMode": mode(),
            })),
            "projected": object(&["sources"], json!({ "sources": array(16, source), "defaultMode": mode() })),
            "emptyDir": object(&[], json!({
                "medium": choice(&["", "Memory"]),
                "sizeLimit": { "x-kubernetes-int-or-string": true, "maxLength": 32 },
            })),
            "csi": object(&["driver"], json!({
                "driver": formed(DNS_SUBDOMAIN, 253), "readOnly": flag(), "fsType": text(32),
                "volumeAttributes": { "type": "object", "maxProperties": 32, "additionalProperties": text(8192) },
                "nodePublishSecretRef": object(&["name"], json!({ "name": name() })),
            })),
        }),
    );
    volume["x-kubernetes-validations"] = rules(&of_volume);
    list(16, Some("name"), &of_list, volume)
}

/// Where volumes are mounted.
pub(in crate::spec) fn volume_mounts(_: &mut SchemaGenerator) -> Schema {
    let of_mount = [
        Rule {
            rule: "!self.mountPath.matches('/[.][.]?(/|$)') && (!has(self.subPath) || !self.subPath.matches('(^|/)[.][.](/|$)'))",
            message: "write paths without `.` and `..`",
            field: "",
        },
        Rule {
            rule: "!self.mountPath.matches('^/(etc(/clickstream(/.*)?)?|(dev|proc|sys|clickstream-[^/]*)(/.*)?)$')",
            message: "there is what the operator mounts, the program, or the system: choose another path",
            field: ".mountPath",
        },
    ];
    let mut mount = object(
        &["name", "mountPath"],
        json!({
            "name": formed(DNS_LABEL, 63),
            "mountPath": formed(PATH, 512),
            "subPath": text(512),
            "readOnly": flag(),
        }),
    );
    mount["x-kubernetes-validations"] = rules(&of_mount);
    list(16, Some("mountPath"), &[], mount)
}

/// Lines of a hosts file.
pub(in crate::spec) fn host_aliases(_: &mut SchemaGenerator) -> Schema {
    let alias = object(
        &["ip"],
        json!({ "ip": text(64), "hostnames": array(16, formed(DNS_SUBDOMAIN, 253)) }),
    );
    list(16, Some("ip"), &[], alias)
}

/// Settings of the resolver.
pub(in crate::spec) fn dns_config(_: &mut SchemaGenerator) -> Schema {
    let option = object(&["name"], json!({ "name": text(64), "value": text(64) }));
    json_schema!({
        "type": "object",
        "properties": {
            "nameservers": array(3, text(64)),
            "searches": array(32, text(253)),
            "options": array(16, option),
        },
    })
}
