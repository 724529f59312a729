#!/usr/bin/env bash
# Checks the chart and the plain manifests, without a cluster.
#
#   charts/test.sh [--install] [--require]
#     --install   builds Helm 3 and 4, helm-unittest and glua into $CLICKSTREAM_TOOLS/bin (default ~/.cache/clickstream-tools/bin) where they are missing; needs Go
#     --require   what would be skipped is a failure
#
# Runs every helm it finds (helm, helm3, helm4), kubeconform with the schemas that lie in $CLICKSTREAM_TOOLS/schemas
# (default ~/.cache/clickstream-tools), helm-unittest, glua, and the processor's own check of pipelines. What is not
# there is skipped and named. The last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
tools=${CLICKSTREAM_TOOLS:-$HOME/.cache/clickstream-tools}
export PATH="$PATH:$tools/bin"
chart=charts/clickstream-operator
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# neither the user's repositories nor a cluster that happens to be configured play a part
export HELM_CACHE_HOME=$work/h/c HELM_CONFIG_HOME=$work/h/f HELM_DATA_HOME=$work/h/d KUBECONFIG=$work/none
passed=0 failed=0 skipped=0 install='' require=''
for option in "$@"; do
  case $option in
    --install) install=1 ;;
    --require) require=1 ;;
    *) echo "unknown option $option: charts/test.sh [--install] [--require]" >&2; exit 2 ;;
  esac
done

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAILED %s\n' "$1"; [ ! -s "${2:-/dev/null}" ] || sed 's/^/    /' "$2" | head -20; }
skip() { skipped=$((skipped + 1)); printf 'skipped: %s\n' "$1"; }
# check NAME COMMAND...: one check; its output is shown when it fails
check() { local name=$1; shift; if "$@" >"$work/out" 2>&1; then ok; else bad "$name" "$work/out"; fi; }

# ---- what a rendering must never hold ------------------------------------------------------------------------------
# objects FILE: one line `kind namespace name` per object
objects() {
  awk '
    function put() { if (kind != "") print kind, (namespace == "" ? "-" : namespace), name; kind = namespace = name = ""; meta = 0 }
    /^---/ { put(); next }
    /^kind: / { kind = $2 }
    /^[a-z]/ { meta = ($1 == "metadata:") }
    meta && /^  name: / { name = $2 }
    meta && /^  namespace: / { namespace = $2 }
    END { put() }' "$1"
}
# document FILE KIND: the documents of a kind
document() {
  awk -v kind="$2" '
    function put() { if (text ~ ("(^|\n)kind: " kind "\n")) printf "---\n%s", text; text = "" }
    /^---/ { put(); next }
    { text = text $0 "\n" }
    END { put() }' "$1"
}
no_wildcards() { ! { document "$1" ClusterRole; document "$1" Role; } | grep -nE '^ *-? *(apiGroups|resources|verbs):.*\*|^ *- *["'\'']?\*'; }
# every rule about Secrets allows `get` and nothing else; a Role without such a rule is none of the operator's
secrets_are_only_read_by_name() {
  { document "$1" ClusterRole; document "$1" Role; } | awk '
    /resources:.*secrets/ { seen++; getline; if ($0 !~ /^ *verbs: \[get\]$/) { print "a rule about secrets allows more than get: " $0; wrong = 1 } }
    END { exit wrong || !seen }'
}
no_rights_to_grant_rights() { ! { document "$1" ClusterRole; document "$1" Role; } | grep -nE 'rbac\.authorization\.k8s\.io\]|impersonate|escalate|\bbind\b|pods/exec|serviceaccounts/token'; }
names_are_unique() { local twice; twice=$(objects "$1" | sort | uniq -d); [ -z "$twice" ] || { echo "$twice"; return 1; }; }
# the token is asked for once, by the operator's own pod; every account and every other pod says no
only_the_operator_has_a_token() {
  local yes; yes=$(grep -c 'automountServiceAccountToken: true' "$1")
  [ "$yes" = 1 ] && [ "$(document "$1" Deployment | grep -c 'automountServiceAccountToken: true')" = 1 ] || { echo "tokens: $yes"; return 1; }
  local kind; for kind in ServiceAccount Pod; do
    [ "$(document "$1" $kind | grep -c "^kind: $kind$")" = "$(document "$1" $kind | grep -c 'automountServiceAccountToken: false')" ] || { echo "a $kind mounts a token"; return 1; }
  done
}
pods_are_restricted() {
  local pods want; pods=$(objects "$1" | grep -cE '^(Deployment|Pod) ')
  for want in 'runAsNonRoot: true' 'type: RuntimeDefault' 'allowPrivilegeEscalation: false' 'readOnlyRootFilesystem: true' 'enableServiceLinks: false'; do
    [ "$(grep -c "$want" "$1")" = "$pods" ] || { echo "$want: not in each of $pods pods"; return 1; }
  done
  ! grep -nE 'hostNetwork|hostPID|hostPath|privileged: true|:latest' "$1"
}
# from `spec:` on the definition is the generated file, byte for byte: no template touched the braces of its rules
crd_is_the_generated_one() {
  local got want; got=$(document "$1" CustomResourceDefinition | sed -n '/^spec:/,$p')
  want=$(sed -n '/^spec:/,$p' $chart/files/crd.yaml)
  [ -n "$got" ] || { echo "no CustomResourceDefinition"; return 1; }
  diff <(echo "$want") <(echo "$got")
}
# by Helm, and by Argo CD, which knows nothing of Helm's word for it
crd_is_kept() {
  local want; for want in 'helm.sh/resource-policy: keep' 'argocd.argoproj.io/sync-options: Prune=false,Delete=false'; do
    [ "$(document "$1" CustomResourceDefinition | grep -c "$want")" = 1 ] || { echo "no $want"; return 1; }
  done
}
sets_pod_monitor() { grep -A1 'name: CLICKSTREAM_POD_MONITOR$' "$1" | grep 'value: "true"'; }
# conform FILE: every object fits its schema; kinds of the Prometheus Operator have none here
conform() { kubeconform -strict -summary -skip ServiceMonitor,PodMonitor,PrometheusRule -schema-location "$tools/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$1"; }

# ---- the chart -----------------------------------------------------------------------------------------------------
helm3=helm.sh/helm/v3/cmd/helm@v3.22.0 helm4=helm.sh/helm/v4/cmd/helm@v4.3.1
find_helms() {
  helms=()
  local helm version
  for helm in helm helm3 helm4; do
    command -v $helm >/dev/null || continue
    version=$($helm version --template '{{.Version}}' 2>/dev/null)
    case " ${helms[*]-} " in *"=$version "*) continue ;; esac
    helms+=("$helm=$version")
  done
}
has_helm() { case " ${helms[*]-}" in *"=v$1."*) true ;; *) false ;; esac; }
# build_helm NAME MODULE: into the tools, under this name
build_helm() { GOBIN=$work/bin go install -trimpath -ldflags '-s -w' "$2" && mkdir -p "$tools/bin" && mv "$work/bin/helm" "$tools/bin/$1"; }
[ -z "$install" ] || command -v go >/dev/null || { install=''; skip "nothing is installed: no Go"; }
find_helms
for major in 3 4; do
  module=helm$major
  if ! has_helm $major && [ -n "$install" ]; then CGO_ENABLED=0 check "build ${!module}" build_helm $module "${!module}"; fi
done
find_helms
for major in 3 4; do has_helm $major || skip "Helm $major is not installed: charts/test.sh --install"; done
can_conform=
if ! command -v kubeconform >/dev/null; then skip "schema validation of renderings: no kubeconform"
elif [ ! -d "$tools/schemas" ]; then skip "schema validation of renderings: no schemas in $tools/schemas"
else can_conform=1; fi

for entry in ${helms[@]+"${helms[@]}"}; do
  helm=${entry%%=*} version=${entry#*=}
  mkdir -p "$work/$version"
  for values in $chart/tests/values/*.yaml; do
    case=$(basename "$values" .yaml)
    out=$work/$version/$case.yaml
    check "$version lint $case" $helm lint --strict --quiet $chart -f "$values"
    if ! $helm template clicks $chart --namespace clicks-system --kube-version 1.33.0 -f "$values" >"$out" 2>"$work/err"; then
      bad "$version template $case" "$work/err"; continue
    fi
    ok
    check "$version $case: names" names_are_unique "$out"
    check "$version $case: objects are those of ${values%.yaml}.objects" diff "${values%.yaml}.objects" <(objects "$out" | sort)
    check "$version $case: wildcards" no_wildcards "$out"
    check "$version $case: rights" no_rights_to_grant_rights "$out"
    check "$version $case: restricted" pods_are_restricted "$out"
    check "$version $case: tokens" only_the_operator_has_a_token "$out"
    case $case in bare) ;; *) check "$version $case: secrets" secrets_are_only_read_by_name "$out" ;; esac
    case $case in
      bare | namespaced) check "$version $case: no definition" test -z "$(document "$out" CustomResourceDefinition)" ;;
      *) check "$version $case: definition" crd_is_the_generated_one "$out" ;;
    esac
    case $case in default | everything | openshift) check "$version $case: kept" crd_is_kept "$out" ;; esac
    [ -z "$can_conform" ] || check "$version $case: schemas" conform "$out"
  done
  while IFS='|' read -r values word; do
    case $values in '#'* | '') continue ;; esac
    set_values=$(sed -E 's/^\{"([A-Za-z]+)":(.*)\}$/\1=\2/' <<<"$values")
    if $helm template clicks $chart --set-json "$set_values" >"$work/out" 2>&1; then bad "$version took $values"
    elif grep -q "$word" "$work/out" && grep -q "values don't meet the specifications" "$work/out"; then ok
    else bad "$version refused $values for another reason" "$work/out"; fi
  done <$chart/tests/values/refused.txt
  $helm template clicks $chart -f $chart/tests/values/default.yaml --kube-version 1.32.9 >"$work/said" 2>&1 && bad "$version installs on Kubernetes 1.32"
  check "$version says that Kubernetes is too old" grep 'requires kubeVersion' "$work/said"
  # nothing is rendered of images that are nobody's, and the refusal names the value
  $helm template clicks $chart --kube-version 1.33.0 >"$work/said" 2>&1 && bad "$version renders without a registry"
  check "$version asks for a registry" grep 'set image.registry=' "$work/said"
  # the word of releases before, as a value or kept by an upgrade
  $helm template clicks $chart -f $chart/tests/values/default.yaml --kube-version 1.33.0 --set pipelines.podMonitor=true >"$work/monitors" 2>"$work/said"
  check "$version takes pipelines.podMonitor=true" sets_pod_monitor "$work/monitors"
  # nor is anything rendered of rights that nobody asked for
  $helm template clicks $chart --kube-version 1.33.0 --set image.registry=registry.example.com >"$work/said" 2>&1 && bad "$version takes every namespace unasked"
  check "$version asks for namespaces" grep 'set watchNamespaces=' "$work/said"
  check "$version offers all of them" grep 'set watchAllNamespaces=true' "$work/said"
  check "$version plain manifests are the chart's" env HELM=$helm charts/render.sh --check
done
for file in "$work"/v3*/*.yaml; do
  other=$(echo "$work"/v4*/"$(basename "$file")")
  [ ! -f "$other" ] || check "Helm 3 and 4 agree on $(basename "$file")" diff <(objects "$file" | sort) <(objects "$other" | sort)
done
check "README.md is what values.yaml says" charts/readme.sh --check
unittest=github.com/helm-unittest/helm-unittest@v1.1.2
# its go.mod replaces a module, so `go install` refuses it
build_unittest() {
  local sources; sources=$(cd "$work" && go mod download -json $unittest | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  mkdir -p "$tools/bin" && go build -C "$sources" -trimpath -ldflags '-s -w' -o "$tools/bin/helm-unittest" ./cmd/helm-unittest
}
if ! command -v helm-unittest >/dev/null && [ -n "$install" ]; then CGO_ENABLED=0 check "build $unittest" build_unittest; fi
if command -v helm-unittest >/dev/null; then check "helm-unittest" helm-unittest --strict $chart
else skip "$unittest is not installed: charts/test.sh --install"; fi

# Argo CD's own Lua
glua=github.com/yuin/gopher-lua/cmd/glua@v1.1.1
build_glua() { GOBIN=$work/bin go install -trimpath -ldflags '-s -w' $glua && mkdir -p "$tools/bin" && mv "$work/bin/glua" "$tools/bin/glua"; }
if ! command -v glua >/dev/null && [ -n "$install" ]; then CGO_ENABLED=0 check "build $glua" build_glua; fi
sed -n '/^```lua$/,/^```$/p' docs/kubernetes.md | sed '/^```/d' >"$work/health.lua"
if command -v glua >/dev/null; then check "the health check for Argo CD" glua charts/health_test.lua "$work/health.lua"
else skip "$glua is not installed: charts/test.sh --install"; fi

# ---- manifests -----------------------------------------------------------------------------------------------------
# pipelines FILE DIR: each ClickstreamPipeline of a file into a file of its own
pipelines() {
  awk -v out="$2/$(basename "$1" .yaml)" '
    function put() { if (text ~ /(^|\n)kind: ClickstreamPipeline\n/) { n++; printf "%s", text > (out "-" n ".yaml") } text = "" }
    /^---/ { put(); next }
    { text = text $0 "\n" }
    END { put() }' "$1"
}
mkdir -p "$work/pipelines"
for file in manifests/examples/*.yaml; do
  pipelines "$file" "$work/pipelines"
  compgen -G "$work/pipelines/$(basename "$file" .yaml)-*.yaml" >/dev/null && ok || bad "$file has no pipeline"
done
# what NOTES.txt, Chart.yaml and the README offer must be as good as the examples
sed -n "/<<'YAML'/,/^  YAML/p" $chart/templates/NOTES.txt | sed -e '1d;$d' -e 's/^  //' >"$work/pipelines/notes.yaml"
sed -n '/crdsExamples: |/,/^  artifacthub.io\/changes/p' $chart/Chart.yaml | sed -e '1d;$d' -e 's/^    - /  /' -e 's/^      /  /' -e 's/^  //' >"$work/pipelines/artifacthub.yaml"
processor=${CLICKSTREAM_PROCESSOR:-target/debug/clickstream-processor}
if [ ! -x "$processor" ]; then skip "examples against the pipeline's own types: no $processor (cargo build -p clickstream-processor)"
else
  for file in "$work"/pipelines/*.yaml; do
    # the document is judged before any Secret is read, and there are none here
    "$processor" migrate --pipeline "$file" --secrets-dir "$work/no-secrets" >"$work/out" 2>&1
    if grep -qE 'is given neither in the spec nor in a Secret|there is no folder' "$work/out"; then ok; else bad "$(basename "$file") is no pipeline" "$work/out"; fi
  done
fi
lines=$(wc -l <manifests/examples/minimal.yaml)
[ "$lines" -le 15 ] && ok || bad "manifests/examples/minimal.yaml has $lines lines, not 15"
if [ -n "$can_conform" ]; then
  for file in manifests/install/*.yaml manifests/examples/*.yaml; do
    check "$file: schemas" kubeconform -strict -skip "ClickstreamPipeline,Kafka,KafkaNodePool,KafkaUser,Cluster,ExternalSecret,SecretStore,ScaledObject,TriggerAuthentication" \
      -schema-location "$tools/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$file"
  done
fi

if [ -n "$require" ] && [ "$skipped" -gt 0 ]; then failed=$((failed + skipped)); fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
