#!/usr/bin/env bash
# Writes from the chart:
#   manifests/install/clickstream-operator.yaml   the installation for `kubectl apply -f`. The definition of the resource is
#                                                 not in it, so that deleting what it made never deletes a pipeline.
#   manifests/monitoring/rules.yaml               the alerts for a Prometheus without the Prometheus Operator
#   manifests/monitoring/operator.yaml            the one more where there is an operator: without one it would always fire
#
#   charts/render.sh            writes the files
#   charts/render.sh --check    exits 1 when one is not what would be written
#
# HELM chooses the helm to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CLICKSTREAM_TOOLS:-$HOME/.cache/clickstream-tools}/bin"
if [ -z "${HELM:-}" ]; then
  for HELM in helm helm4 helm3; do command -v "$HELM" >/dev/null && break; done
fi
command -v "$HELM" >/dev/null || { echo "no helm on PATH; set HELM" >&2; exit 1; }
# what the chart does not choose for anybody
chosen=(--set image.registry=registry.invalid --set watchAllNamespaces=true)

install() {
  cat <<'YAML'
# The operator for every namespace, without Helm; the resource's definition comes first, from the folder beside it. The images
# are in no public registry: `cargo xtask images --push registry.example.com/team` puts them into yours, whose name then
# takes the place of registry.invalid, which there can never be:
#
#   kubectl apply -f manifests/crd
#   sed 's#registry.invalid#registry.example.com/team#' manifests/install/*.yaml | kubectl apply -f -
#
# Written by charts/render.sh; change the chart, not this file.
apiVersion: v1
kind: Namespace
metadata:
  name: clickstream-system
  labels:
    app.kubernetes.io/part-of: clickstream
    pod-security.kubernetes.io/enforce: restricted
YAML
  # labels that only Helm has a use for are left out
  "$HELM" template clickstream-operator charts/clickstream-operator \
    --namespace clickstream-system --kube-version 1.33.0 --skip-tests "${chosen[@]}" --set crds.enabled=false |
    sed -e '/^ *helm\.sh\/chart: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^# Source: /d' |
    # Helm 4 ends each document with an empty line, Helm 3 does not
    awk '/^$/ { empty = empty "\n"; next } /^---/ { empty = "" } { printf "%s", empty; empty = ""; print }'
}

rules() {
  cat <<'YAML'
# Alerts for a Prometheus that reads rule files; with the Prometheus Operator use the chart's PrometheusRule (alerts.enabled).
# Their tests are beside this file, the reason of each threshold is in the chart's values. Where an operator runs, operator.yaml
# belongs beside it.
#
# Written by charts/render.sh; change charts/clickstream-operator/files/alerts or the chart's values, not this file.
YAML
  alerts | awk '/^  - alert: / { skip = ($3 == "OperatorAbsent") } !skip'
}

operator() {
  cat <<'YAML'
# The alert for a Prometheus that scrapes an operator, beside rules.yaml. The operator's series carry this label `namespace`.
#
# Written by charts/render.sh; change charts/clickstream-operator/files/alerts or the chart's values, not this file.
YAML
  alerts | awk '/^  - alert: / { skip = ($3 != "OperatorAbsent") } !skip' | sed 's/^- name: clickstream$/- name: clickstream-operator/'
}

# the rule file is what stands under `spec:`
alerts() {
  "$HELM" template clickstream charts/clickstream-operator --namespace clickstream-system --kube-version 1.33.0 \
    --show-only templates/prometheusrule.yaml "${chosen[@]}" --set alerts.enabled=true |
    sed -e '1,/^spec:/d' -e '/^$/d' -e 's/^  //'
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
for part in install:manifests/install/clickstream-operator.yaml rules:manifests/monitoring/rules.yaml operator:manifests/monitoring/operator.yaml; do
  target=${part#*:}
  "${part%%:*}" >"$new"
  if [ "${1:-}" = --check ]; then
    diff -u "$target" "$new" || { echo "$target is not what the chart says: run charts/render.sh" >&2; exit 1; }
  else
    mkdir -p "$(dirname "$target")"
    # not cp: the new file would be readable by its owner only, as mktemp makes it
    cat "$new" >"$target"
  fi
done
