{{/* The chart's name in labels. */}}
{{- define "clickstream-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all namespaced objects; 52 characters leave room for the longest suffix. */}}
{{- define "clickstream-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The name of objects outside the release's namespace. It holds that namespace, with a sign that no name can hold, so
that releases of one name in two namespaces never meet.
*/}}
{{- define "clickstream-operator.outsideName" -}}
{{- printf "%s:%s" .Release.Namespace (include "clickstream-operator.fullname" .) }}
{{- end }}

{{- define "clickstream-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "clickstream-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "clickstream-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "clickstream-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "clickstream-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "clickstream-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: clickstream
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
An image reference from `image` (registry, repository, tag, digest), the `shared` registry and the default `tag`. One
without a registry is looked for under a name at Docker Hub that is not this project's: whoever has it would run
with the operator's rights.
*/}}
{{- define "clickstream-operator.image" -}}
{{- $registry := default .shared.registry .image.registry | trimSuffix "/" }}
{{- $path := .image.repository }}
{{- if $registry }}
{{- $path = printf "%s/%s" $registry .image.repository }}
{{- end }}
{{- $name := printf "%s:%s" $path (default .tag .image.tag) }}
{{- if .image.digest }}
{{- $name = printf "%s@%s" $path .image.digest }}
{{- end }}
{{- $local := and .shared.local (not $registry) }}
{{- $why := "" }}
{{- if $local }}
{{- else if not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" $path) }}
{{- $why = "is in no registry, and the images of this project are in no public one" }}
{{- else if regexMatch "^([^/]*\\.)?docker\\.io/clickstream/" $path }}
{{- $why = "is not this project's: nobody here has that account" }}
{{- end }}
{{- if $why }}
{{- fail (printf "\n\n%s %s.\nBuild the images, push them to a registry of yours, and name it:\n\n  cargo xtask images --push registry.example.com/team\n  helm ... --set image.registry=registry.example.com/team\n\nIf the nodes have them already, as in kind: --set image.local=true, and nothing is pulled.\n" $name $why) }}
{{- end }}
{{- $name }}
{{- end }}

{{- define "clickstream-operator.operatorImage" -}}
{{- include "clickstream-operator.image" (dict "image" .Values.image "shared" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{- define "clickstream-operator.processorImage" -}}
{{- include "clickstream-operator.image" (dict "image" .Values.pipelines.processor.image "shared" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{- define "clickstream-operator.producerImage" -}}
{{- include "clickstream-operator.image" (dict "image" .Values.pipelines.producer.image "shared" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{- define "clickstream-operator.consoleImage" -}}
{{- include "clickstream-operator.image" (dict "image" .Values.console.image "shared" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* When the operator's and the console's images are pulled, and when those of pipelines. */}}
{{- define "clickstream-operator.pullPolicy" -}}
{{- .Values.image.local | ternary "Never" .Values.image.pullPolicy }}
{{- end }}

{{- define "clickstream-operator.pipelinesPullPolicy" -}}
{{- .Values.image.local | ternary "Never" .Values.pipelines.imagePullPolicy }}
{{- end }}

{{- define "clickstream-operator.consoleSelectorLabels" -}}
app.kubernetes.io/name: {{ include "clickstream-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: console
{{- end }}

{{- define "clickstream-operator.consoleLabels" -}}
{{- include "clickstream-operator.labels" . | replace "app.kubernetes.io/component: operator" "app.kubernetes.io/component: console" }}
{{- end }}

{{/*
Whose CustomResourceDefinition the cluster has:
  absent   none, or nothing can be looked up (helm template)
  ours     this release's
  same     another owner's, made from the same file
  other    another owner's, made from another file
*/}}
{{- define "clickstream-operator.crdState" -}}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "clickstreampipelines.clickstream.dev" }}
{{- if not $crd }}absent
{{- else }}
{{- $annotations := default dict $crd.metadata.annotations }}
{{- $name := default "" (get $annotations "meta.helm.sh/release-name") }}
{{- $namespace := default "" (get $annotations "meta.helm.sh/release-namespace") }}
{{- $file := default "" (get $annotations "clickstream.dev/crd-sha256") }}
{{- if and (eq $name .Release.Name) (eq $namespace .Release.Namespace) }}ours
{{- else if eq $file (.Files.Get "files/crd.yaml" | sha256sum) }}same
{{- else }}other
{{- end }}
{{- end }}
{{- end }}

{{/* The commands that make an existing CustomResourceDefinition this release's. */}}
{{- define "clickstream-operator.crdTakeOver" -}}
kubectl label crd clickstreampipelines.clickstream.dev app.kubernetes.io/managed-by=Helm --overwrite
kubectl annotate crd clickstreampipelines.clickstream.dev meta.helm.sh/release-name={{ .Release.Name }} meta.helm.sh/release-namespace={{ .Release.Namespace }} --overwrite
{{- end }}

{{/* The settings of the pipelines' PodMonitors; releases before had `true` or `false` in their place. */}}
{{- define "clickstream-operator.podMonitor" -}}
{{- if kindIs "map" .Values.pipelines.podMonitor }}
{{- toYaml .Values.pipelines.podMonitor }}
{{- else }}
{{- dict "enabled" (eq true .Values.pipelines.podMonitor) | toYaml }}
{{- end }}
{{- end }}

{{/* What the operator is asked by: http, or https where it has a certificate. */}}
{{- define "clickstream-operator.scheme" -}}
{{- if include "clickstream-operator.tlsSecret" . }}https{{ else }}http{{ end }}
{{- end }}

{{/* The Secret of the operator's certificate. Values that an upgrade kept from a release before know nothing of it. */}}
{{- define "clickstream-operator.tlsSecret" -}}
{{- dig "tls" "secretName" "" .Values.metrics }}
{{- end }}

{{/* Whether the API server reviews the tokens that are shown to the operator. */}}
{{- define "clickstream-operator.reviews" -}}
{{- if eq (dig "auth" "None" .Values.metrics) "TokenReview" }}true{{ end }}
{{- end }}

{{/* A token in the clear is everybody's. */}}
{{- define "clickstream-operator.checkMetrics" -}}
{{- if and (include "clickstream-operator.reviews" .) (not (include "clickstream-operator.tlsSecret" .)) }}
{{- fail "\n\nmetrics.auth=TokenReview takes metrics.tls.secretName: a token in the clear is everybody's.\n" }}
{{- end }}
{{- if and (dig "metrics" "token" "secretName" "" .Values.pipelines) (not (dig "metrics" "tls" "secretName" "" .Values.pipelines)) }}
{{- fail "\n\npipelines.metrics.token.secretName takes pipelines.metrics.tls.secretName: a token in the clear is everybody's.\n" }}
{{- end }}
{{- end }}

{{/* The settings of the pipelines' NetworkPolicies; releases before had `true` or `false` in their place. */}}
{{- define "clickstream-operator.pipelinesNetworkPolicy" -}}
{{- if kindIs "map" .Values.pipelines.networkPolicy }}
{{- toYaml .Values.pipelines.networkPolicy }}
{{- else }}
{{- dict "enabled" (eq true .Values.pipelines.networkPolicy) | toYaml }}
{{- end }}
{{- end }}

{{/* Who may ask the pods of pipelines, and where these may go, as the operator reads it. */}}
{{- define "clickstream-operator.networkPeers" -}}
{{- $policy := include "clickstream-operator.pipelinesNetworkPolicy" . | fromYaml }}
{{- $here := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) }}
{{- $from := list (dict "namespaceSelector" $here "podSelector" (dict "matchLabels" (include "clickstream-operator.selectorLabels" . | fromYaml))) }}
{{- if .Values.console.enabled }}
{{- $from = append $from (dict "namespaceSelector" $here "podSelector" (dict "matchLabels" (include "clickstream-operator.consoleSelectorLabels" . | fromYaml))) }}
{{- end }}
{{- $from = concat $from ($policy.metricsFrom | default list) }}
{{- dict "from" $from "kafka" ($policy.kafka | default list) "postgres" ($policy.postgres | default list) "collector" ($policy.collector | default list) "egress" ($policy.egress | default list) | toJson }}
{{- end }}

{{/* DNS, at the ports where servers listen: OpenShift's is 5353, and policies see what is behind a Service. */}}
{{- define "clickstream-operator.dnsRule" -}}
- ports:
  - port: 53
    protocol: UDP
  - port: 53
    protocol: TCP
  - port: 5353
    protocol: UDP
  - port: 5353
    protocol: TCP
{{- end }}

{{/* A rule for these TCP ports, anywhere. */}}
{{- define "clickstream-operator.portsRule" -}}
- ports:
  {{- range . }}
  - port: {{ . }}
    protocol: TCP
  {{- end }}
{{- end }}

{{/* The admin ports of the pods of pipelines. */}}
{{- define "clickstream-operator.podsRule" -}}
- to:
  - namespaceSelector: {}
    podSelector:
      matchLabels:
        app.kubernetes.io/managed-by: clickstream-operator
  ports:
  - port: 8080
    protocol: TCP
{{- end }}

{{/* The namespaces that are watched, with commas; none stands for all of them, which has to be said. */}}
{{- define "clickstream-operator.namespaces" -}}
{{- if and .Values.watchAllNamespaces .Values.watchNamespaces }}
{{- fail "\n\nwatchAllNamespaces and watchNamespaces are both set: take the names away, or leave watchAllNamespaces false.\n" }}
{{- end }}
{{- if not (or .Values.watchAllNamespaces .Values.watchNamespaces) }}
{{- fail "\n\nSay which namespaces have pipelines that this operator looks after; they must exist, and it gets a Role in each:\n\n  --set watchNamespaces={shop}\n\nOr every namespace, with the right to read each Secret of the cluster by its name:\n\n  --set watchAllNamespaces=true\n" }}
{{- end }}
{{- join "," .Values.watchNamespaces }}
{{- end }}

{{/* What the operator does in the namespaces of pipelines. Nothing here reads a Secret that no spec names: no list, no watch. */}}
{{- define "clickstream-operator.rules" -}}
- apiGroups: [clickstream.dev]
  resources: [clickstreampipelines]
  verbs: [get, list, watch, update, patch]
- apiGroups: [clickstream.dev]
  resources: [clickstreampipelines/status]
  verbs: [get, update, patch]
- apiGroups: [clickstream.dev]
  resources: [clickstreampipelines/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# the Secrets that specs name, one by one
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# why the API server refuses the pod of a migration
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}
