#!/usr/bin/env bash
# Writes manifests/install/clickstream-operator.yaml, the installation for `kubectl apply -f`, from the chart. The
# definition of the resource is not in it, so that deleting what it made never deletes a pipeline.
#
#   charts/render.sh            writes the file
#   charts/render.sh --check    exits 1 when the file is not what would be written
#
# HELM chooses the helm to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CLICKSTREAM_TOOLS:-$HOME/.cache/clickstream-tools}/bin"
if [ -z "${HELM:-}" ]; then
  for HELM in helm helm4 helm3; do command -v "$HELM" >/dev/null && break; done
fi
command -v "$HELM" >/dev/null || { echo "no helm on PATH; set HELM" >&2; exit 1; }
target=manifests/install/clickstream-operator.yaml

install() {
  cat <<'YAML'
# The operator for every namespace, without Helm; the resource's definition comes first, from the folder beside it:
#
#   kubectl apply -f manifests/crd -f manifests/install
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
    --namespace clickstream-system --kube-version 1.33.0 --skip-tests --set crds.enabled=false |
    sed -e '/^ *helm\.sh\/chart: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d' -e '/^# Source: /d' |
    # Helm 4 ends each document with an empty line, Helm 3 does not
    awk '/^$/ { empty = empty "\n"; next } /^---/ { empty = "" } { printf "%s", empty; empty = ""; print }'
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
install >"$new"
if [ "${1:-}" = --check ]; then
  diff -u "$target" "$new" || { echo "$target is not what the chart says: run charts/render.sh" >&2; exit 1; }
else
  mkdir -p "$(dirname "$target")"
  cp "$new" "$target"
fi
