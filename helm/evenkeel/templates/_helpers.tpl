{{/* Names, labels and images. Names are cut to 63 characters, the limit of a DNS label. */}}

{{- define "evenkeel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Room is left for the longest suffix, "-proxy-admin". */}}
{{- define "evenkeel.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "evenkeel.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* The components that this release installs, as a comma separated list. */}}
{{- define "evenkeel.components" -}}
{{- $all := list "proxy" -}}
{{- if .Values.server.enabled }}{{ $all = append $all "server" }}{{ end -}}
{{- if .Values.dashboard.enabled }}{{ $all = append $all "dashboard" }}{{ end -}}
{{- join "," $all -}}
{{- end -}}

{{/* Selectors cannot be changed later, so they hold nothing that changes: no version, no chart. */}}
{{- define "evenkeel.selectorLabels" -}}
app.kubernetes.io/name: {{ include "evenkeel.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "evenkeel.labels" -}}
{{ include "evenkeel.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: evenkeel
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of every object: (dict "root" $ "component" "proxy" "suffix" "-proxy"). */}}
{{- define "evenkeel.metadata" -}}
name: {{ include "evenkeel.fullname" .root }}{{ .suffix }}
namespace: {{ include "evenkeel.namespace" .root }}
labels:
  {{- include "evenkeel.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "evenkeel.image" -}}
{{- $image := merge (dict) .image (omit .root.Values.image "pullPolicy") -}}
{{- $registry := default $image.registry .root.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion (default .root.Values.image.tag .image.tag)) -}}
{{- end -}}
{{- end -}}

{{- define "evenkeel.pullPolicy" -}}
{{- default .root.Values.image.pullPolicy .image.pullPolicy -}}
{{- end -}}

{{- define "evenkeel.pullSecrets" -}}
{{- with concat .Values.imagePullSecrets .Values.global.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- range . }}
  - {{ if kindIs "string" . }}name: {{ . }}{{ else }}{{ toYaml . }}{{ end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "evenkeel.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "evenkeel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The Service whose EndpointSlices the proxy watches, as "name.namespace"; empty if it watches none. */}}
{{- define "evenkeel.watched" -}}
{{- $backends := .Values.proxy.backends -}}
{{- $isWatched := hasPrefix "kubernetes://" $backends -}}
{{- if eq .Values.proxy.discovery "kubernetes" -}}
  {{- if and $backends (not $isWatched) -}}
    {{- fail "proxy.backends is found by its own scheme: with proxy.discovery=kubernetes it must be empty or kubernetes://SERVICE.NAMESPACE:PORT" -}}
  {{- end -}}
  {{- if $isWatched -}}
    {{- if not (regexMatch "^kubernetes://[a-z0-9-]+\\.[a-z0-9-]+:[a-z0-9-]+$" $backends) -}}
      {{- fail (printf "proxy.backends is %s; expected kubernetes://SERVICE.NAMESPACE:PORT" $backends) -}}
    {{- end -}}
    {{- $backends | trimPrefix "kubernetes://" | splitList ":" | first -}}
  {{- else -}}
    {{- printf "%s-server.%s" (include "evenkeel.fullname" .) (include "evenkeel.namespace" .) -}}
  {{- end -}}
{{- else if $isWatched -}}
  {{- fail "proxy.backends=kubernetes://… needs proxy.discovery=kubernetes, which lets the proxy watch" -}}
{{- end -}}
{{- end -}}

{{- define "evenkeel.adminSecretName" -}}
{{- default (printf "%s-admin" (include "evenkeel.fullname" .)) .Values.adminToken.existingSecret -}}
{{- end -}}

{{- define "evenkeel.readSecretName" -}}
{{- default (printf "%s-read" (include "evenkeel.fullname" .)) .Values.readToken.existingSecret -}}
{{- end -}}

{{- define "evenkeel.stickySecretName" -}}
{{- default (printf "%s-sticky" (include "evenkeel.fullname" .)) .Values.proxy.sticky.existingSecret -}}
{{- end -}}

{{/* How many pods a component has at least; decides whether a disruption budget can be kept. */}}
{{- define "evenkeel.replicasMin" -}}
{{- if .autoscaling.enabled -}}{{ .autoscaling.minReplicas }}{{- else -}}{{ .replicas | default 0 }}{{- end -}}
{{- end -}}

{{/*
A Secret of the proxy with one key, made once and kept by upgrades. Takes root, suffix, name, key and, if
somebody gives it, value.
*/}}
{{- define "evenkeel.keptSecret" -}}
{{- $kept := lookup "v1" "Secret" (include "evenkeel.namespace" .root) .name -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "evenkeel.metadata" (dict "root" .root "component" "proxy" "suffix" .suffix) | nindent 2 }}
type: Opaque
data:
  {{- if .value }}
  {{ .key }}: {{ .value | b64enc }}
  {{- else if and $kept (hasKey (default (dict) $kept.data) .key) }}
  {{ .key }}: {{ index $kept.data .key }}
  {{- else }}
  {{ .key }}: {{ randAlphaNum 48 | b64enc }}
  {{- end }}
{{- end -}}
