#!/usr/bin/env bash
# Installs, upgrades and removes the chart on a real Kubernetes API: two releases side by side, a definition that was
# left behind, other owners, and the rights that result. Pods need not start, so an API server alone is enough.
#
#   KUBECONFIG=... charts/lifecycle.sh [HELM]
#
# Refuses a cluster that has the CustomResourceDefinition already: it deletes it, and with it every pipeline.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export PATH="$PATH:${CLICKSTREAM_TOOLS:-$HOME/.cache/clickstream-tools}/bin"
helm=${1:-helm}
command -v "$helm" >/dev/null || { echo "$helm is not on PATH: charts/lifecycle.sh HELM" >&2; exit 2; }
chart=charts/clickstream-operator
crd=clickstreampipelines.clickstream.dev
work=$(mktemp -d)
export HELM_CACHE_HOME=$work/h/c HELM_CONFIG_HOME=$work/h/f HELM_DATA_HOME=$work/h/d
p=lc$$
namespaces=("$p-one" "$p-two" "$p-three" "$p-shop" "$p-news")
passed=0 failed=0

kubectl get --raw /readyz >/dev/null || { echo "KUBECONFIG leads to no cluster that answers" >&2; exit 2; }
if kubectl get crd $crd >/dev/null 2>&1; then
  echo "the cluster has $crd already: take a cluster for trials" >&2; exit 2
fi
clean() {
  local ns
  for ns in $p-one $p-two $p-three; do
    for release in $($helm list --namespace $ns --short --all 2>/dev/null); do $helm uninstall "$release" --namespace $ns >/dev/null 2>&1; done
  done
  kubectl delete crd $crd --ignore-not-found >/dev/null 2>&1
  kubectl delete --filename tests/policies/restricted-v2.yaml --ignore-not-found >/dev/null 2>&1
  kubectl delete namespace "${namespaces[@]}" --ignore-not-found --wait=false >/dev/null 2>&1
  rm -rf "$work"
}
trap clean EXIT
for ns in "${namespaces[@]}"; do kubectl create namespace "$ns" >/dev/null || exit 2; done

ok() { passed=$((passed + 1)); printf 'ok: %s\n' "$1"; }
bad() { failed=$((failed + 1)); printf 'FAILED %s\n' "$1"; sed 's/^/    /' "$work/out" | head -20; }
works() { local name=$1; shift; if "$@" >"$work/out" 2>&1; then ok "$name"; else bad "$name"; fi; }
# refused NAME WORD COMMAND...: fails, and says WORD
refused() { local name=$1 word=$2; shift 2; if ! "$@" >"$work/out" 2>&1 && grep -qF -e "$word" "$work/out"; then ok "$name"; else bad "$name"; fi; }
says() { local name=$1 word=$2; if grep -qF -e "$word" "$work/out"; then ok "$name"; else bad "$name"; fi; }
# no pod has to start here, so the images need not be there
images=(--set image.registry=registry.example.com) everywhere=(--set watchAllNamespaces=true)
release() { local verb=$1 name=$2 ns=$3; shift 3; $helm "$verb" "$name" "${CHART:-$chart}" --namespace "$ns" "${images[@]}" "$@"; }
owner() { kubectl get crd $crd -o jsonpath='{.metadata.annotations.meta\.helm\.sh/release-name}'; }
is() { [ "$1" = "$2" ] || { echo "$1 is not $2"; return 1; }; }
# may ACCOUNT VERB RESOURCE[/SUBRESOURCE] NAMESPACE [yes|no]
may() {
  local sub=(); case $3 in */*) sub=(--subresource "${3#*/}") ;; esac
  is "$(kubectl auth can-i "$2" "${3%/*}" ${sub[@]+"${sub[@]}"} --namespace "$4" --as "$1" 2>/dev/null)" "${5:-yes}"
}
pipeline() {
  kubectl apply --namespace "$1" --filename - <<YAML
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: web }
spec:
  kafka: { bootstrapServers: "kafka:9092" }
  targets: [{ connection: { secret: { name: postgres } } }]
YAML
}

# ---- two releases of one name side by side, each with namespaces of its own -------------------------------------------
works "first release" release install clicks $p-one --set "watchNamespaces={$p-shop}"
works "it owns the definition" is "$(owner)" clicks
works "a pipeline" pipeline $p-shop
works "second release of the same name in another namespace" release install clicks $p-two --set "watchNamespaces={$p-news}"
says "its notes tell whose the definition is" "belongs to another release"
refused "a third one in the first one's namespace" "holds the operator of another release already" release install other $p-one --set "watchNamespaces={$p-news}"
one=system:serviceaccount:$p-one:clicks-clickstream-operator
for verb in get list watch create update patch delete; do works "operator may $verb deployments in its namespace" may $one $verb deployments.apps $p-shop; done
works "operator may get a secret" may $one get secrets $p-shop
for verb in list watch create update patch delete; do works "operator may not $verb secrets" may $one $verb secrets $p-shop no; done
works "operator may write a status" may $one patch clickstreampipelines.clickstream.dev/status $p-shop
works "operator may write Events" may $one create events.events.k8s.io $p-shop
works "operator may hold its Lease" may $one update leases.coordination.k8s.io $p-one
works "operator may not hold a Lease elsewhere" may $one update leases.coordination.k8s.io $p-shop no
works "operator has no right in the other's namespace" may $one get clickstreampipelines.clickstream.dev $p-news no
works "operator may not create pipelines" may $one create clickstreampipelines.clickstream.dev $p-shop no
works "operator may not run commands in pods" may $one create pods/exec $p-shop no
works "operator may not hand out rights" may $one create rolebindings.rbac.authorization.k8s.io $p-shop no
works "operator may read the uid of kube-system" is "$(kubectl auth can-i get namespaces/kube-system --as $one 2>/dev/null)" yes
works "operator may read no other namespace" is "$(kubectl auth can-i get namespaces/$p-shop --as $one 2>/dev/null)" no

# ---- what the project offers to be applied -----------------------------------------------------------------------------
# other operators' kinds are not in this cluster: pipelines, and what Kubernetes has itself
for file in manifests/examples/*.yaml manifests/quickstart/*.yaml manifests/install/*.yaml; do
  case $file in */kustomization.yaml) continue ;; esac
  sed -e 's/^  namespace: analytics$//' -e "s/clickstream-system/$p-three/" "$file" | awk '
    function put() { if (text ~ /(^|\n)apiVersion: / && text !~ /apiVersion: (kafka\.strimzi|postgresql\.cnpg|keda|external-secrets)/) { printf "---\n%s", text } text = "" }
    /^---/ { put(); next }
    { text = text $0 "\n" }
    END { put() }' >"$work/applied.yaml"
  ns=(--namespace "$p-news"); grep -q '^  namespace: clickstream-system' "$file" && ns=()
  works "$file" kubectl apply --dry-run=server --validate=strict ${ns[@]+"${ns[@]}"} --filename "$work/applied.yaml"
done
sed -n "/<<'YAML'/,/^  YAML/p" $chart/templates/NOTES.txt | sed -e '1d;$d' -e 's/^  //' >"$work/notes.yaml"
works "the pipeline of the notes" kubectl apply --dry-run=server --validate=strict --namespace $p-news --filename "$work/notes.yaml"

# ---- the API server's own judgement of the pods -----------------------------------------------------------------------
kubectl label namespace $p-one pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
# judged VALUES...: what the API server warns of, for Deployment and test pod
judged() {
  $helm template judged $chart --namespace $p-one --kube-version 1.33.0 --set crds.enabled=false "${images[@]}" "${everywhere[@]}" "$@" >"$work/judged.yaml" &&
    kubectl apply --dry-run=server --validate=strict --filename "$work/judged.yaml" 2>&1
}
restricted() { judged "$@" >"$work/judged" || { cat "$work/judged"; return 1; }; ! grep -i 'podsecurity' "$work/judged"; }
works "restricted Pod Security holds" restricted
refused "and is noticed when it does not" PodSecurity restricted --set podSecurityContext.runAsNonRoot=false
# the platform chooses the user of every pod, as OpenShift does
works "a policy like OpenShift's" kubectl apply --filename tests/policies/restricted-v2.yaml
kubectl label namespace $p-one restricted-v2=true >/dev/null
in_force() {
  local try; for try in $(seq 100); do ! judged --set podSecurityContext.runAsUser=65532 >"$work/judged" || { sleep 0.2; continue; }; grep -q 'runAsUser: not in the range' "$work/judged"; return; done
  return 1
}
works "refuses a user that is chosen here" in_force
works "operator and test pod choose none" judged
works "nor does the console" judged --values $chart/tests/values/openshift.yaml

# ---- people ------------------------------------------------------------------------------------------------------------
kubectl create rolebinding viewer --namespace $p-shop --clusterrole $p-one:clicks-clickstream-operator:view --user viewer >/dev/null
kubectl create rolebinding editor --namespace $p-shop --clusterrole $p-one:clicks-clickstream-operator:edit --user editor >/dev/null
works "viewer sees pipelines" may viewer list clickstreampipelines.clickstream.dev $p-shop
works "viewer sees Events" may viewer list events $p-shop
works "viewer changes nothing" may viewer patch clickstreampipelines.clickstream.dev $p-shop no
works "editor creates pipelines" may editor create clickstreampipelines.clickstream.dev $p-shop
works "editor scales pipelines" may editor update clickstreampipelines.clickstream.dev/scale $p-shop
works "editor writes no status" may editor patch clickstreampipelines.clickstream.dev/status $p-shop no

# ---- upgrades -----------------------------------------------------------------------------------------------------------
works "upgrade in place" release upgrade clicks $p-one --set "watchNamespaces={$p-shop}" --set upgrade.maxConcurrent=2
cp -r $chart "$work/next"
sed -i 's/^    shortNames:$/    shortNames:\n    - nextcsp/' "$work/next/files/crd.yaml"
CHART=$work/next refused "a newer definition by a release that does not own it" "kubectl annotate crd" release upgrade clicks $p-two --set "watchNamespaces={$p-news}"
CHART=$work/next works "by the release that does" release upgrade clicks $p-one --set "watchNamespaces={$p-shop}"
works "it arrived" grep -q nextcsp <<<"$(kubectl get crd $crd -o jsonpath='{.spec.names.shortNames}')"
CHART=$work/next works "now by the other one too" release upgrade clicks $p-two --set "watchNamespaces={$p-news}"
works "roll the owner back" $helm rollback clicks 1 --namespace $p-one
works "the definition went back with it" is "$(kubectl get crd $crd -o jsonpath='{.spec.names.shortNames}')" '["csp"]'

# ---- uninstalled, and installed again under another name and namespace ------------------------------------------------------
works "uninstall the owner" $helm uninstall clicks --namespace $p-one
works "the definition and the pipeline stay" kubectl get clickstreampipeline web --namespace $p-shop
works "no right of the release stays" is "$(kubectl get clusterroles,clusterrolebindings -o name | grep -c $p-one)" 0
works "install under another name and namespace" release install later $p-three "${everywhere[@]}"
says "its notes tell how to take the definition over" "meta.helm.sh/release-name=later"
grep -E '^ *kubectl (label|annotate) crd' "$work/out" >"$work/take-over"
works "take it over as they say" bash -e "$work/take-over"
CHART=$work/next works "the next upgrade reaches the definition" release upgrade later $p-three "${everywhere[@]}"
works "it is the new owner's" is "$(owner)" later
works "it is the new one" grep -q nextcsp <<<"$(kubectl get crd $crd -o jsonpath='{.spec.names.shortNames}')"
works "the pipeline is still there" kubectl get clickstreampipeline web --namespace $p-shop
works "cluster-wide now" may system:serviceaccount:$p-three:later-clickstream-operator list clickstreampipelines.clickstream.dev $p-news

# ---- a definition that kubectl installed ------------------------------------------------------------------------------------
for release in later:$p-three clicks:$p-two; do $helm uninstall "${release%:*}" --namespace "${release#*:}" >/dev/null; done
kubectl delete crd $crd >/dev/null
kubectl apply --filename $chart/files/crd.yaml >/dev/null
refused "a definition of nobody's" "kubectl label crd" release install clicks $p-one "${everywhere[@]}"
grep -E '^ *kubectl (label|annotate) crd' "$work/out" >"$work/take-over"
works "hand it over as the message says" bash -e "$work/take-over"
# Helm 4 applies on the server's side, where kubectl still holds the fields
force=(); if [[ $($helm version --template '{{.Version}}') == v4* ]]; then force=(--force-conflicts); fi
works "install after it" release install clicks $p-one "${everywhere[@]}" ${force[@]+"${force[@]}"}
CHART=$work/next works "and the definition follows" release upgrade clicks $p-one "${everywhere[@]}" ${force[@]+"${force[@]}"}
works "it is the new one again" grep -q nextcsp <<<"$(kubectl get crd $crd -o jsonpath='{.spec.names.shortNames}')"
$helm uninstall clicks --namespace $p-one >/dev/null
works "crds.enabled=false leaves it alone" release install clicks $p-one "${everywhere[@]}" --set crds.enabled=false
$helm uninstall clicks --namespace $p-one >/dev/null
kubectl delete crd $crd >/dev/null
works "crds.keep=false" release install clicks $p-one "${everywhere[@]}" --set crds.keep=false
$helm uninstall clicks --namespace $p-one >/dev/null
works "removes it with the release" kubectl wait --for=delete crd/$crd --timeout=30s

echo "$passed passed, $failed failed ($($helm version --template '{{.Version}}'))"
[ "$failed" = 0 ]
