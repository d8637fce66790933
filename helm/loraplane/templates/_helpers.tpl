{{/*
Names, labels and images. Everything else that more than one template needs is beside this file:
_pod.tpl (what all pods share), _model.tpl, _store.tpl, _engine.tpl, _checks.tpl.
*/}}

{{- define "loraplane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that "-controller-revision-hash" labels of the longest suffix still fit into 63. */}}
{{- define "loraplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "loraplane.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "loraplane.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a selector may name: never changes in the life of a release. Call with (dict "root" $ "component" "engine"). */}}
{{- define "loraplane.selectorLabels" -}}
app.kubernetes.io/name: {{ include "loraplane.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels of an object. Call with (dict "root" $ "component" "engine"). */}}
{{- define "loraplane.labels" -}}
{{ include "loraplane.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: loraplane
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a pod: without versions, which would restart engines for a release that changes nothing of theirs. */}}
{{- define "loraplane.podLabels" -}}
{{ include "loraplane.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: loraplane
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with dig "podLabels" (dict) .of }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of an object: the common ones and those given, or nothing. Call with (dict "root" $ "extra" dict). */}}
{{- define "loraplane.annotations" -}}
{{- $all := merge (dict) (default (dict) .extra) .root.Values.commonAnnotations -}}
{{- with $all -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* One image's reference. Call with (dict "root" $ "image" .Values.controller.image), and "foreign" true for images of others. */}}
{{- define "loraplane.image" -}}
{{- $registry := ternary .root.Values.image.mirror .root.Values.image.registry (eq (toString .foreign) "true") -}}
{{- $name := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A component's ServiceAccount. Call with (dict "root" $ "component" "engine" "account" .Values.engine.serviceAccount). */}}
{{- define "loraplane.serviceAccountName" -}}
{{- default (printf "%s-%s" (include "loraplane.fullname" .root) .component) .account.name -}}
{{- end -}}

{{/* Where the controller answers inside the cluster. */}}
{{- define "loraplane.controllerUrl" -}}
{{- printf "http://%s-controller.%s.svc:%v" (include "loraplane.fullname" .) .Release.Namespace .Values.controller.service.port -}}
{{- end -}}

{{/* The Secret with the keys admin-token, cluster-secret, metrics-token and reference-token. */}}
{{- define "loraplane.secretName" -}}
{{- default (printf "%s-secrets" (include "loraplane.fullname" .)) .Values.secrets.existingSecret -}}
{{- end -}}

{{/* sqlite | url | secret | bundled: where the registry is. An external one wins over the bundled one. */}}
{{- define "loraplane.databaseKind" -}}
{{- if .Values.database.existingSecret.name -}}secret
{{- else if .Values.database.url -}}url
{{- else if .Values.postgresql.enabled -}}bundled
{{- else -}}sqlite
{{- end -}}
{{- end -}}

{{/*
The env entry with the registry's URL; nothing with SQLite, which lies in the data folder.
The bundled PostgreSQL's Secret (postgresql*.yaml) is F-postgresql with the key database-url.
*/}}
{{- define "loraplane.databaseEnv" -}}
{{- $kind := include "loraplane.databaseKind" . -}}
{{- if ne $kind "sqlite" -}}
- name: LORAPLANE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- if eq $kind "secret" }}
      name: {{ .Values.database.existingSecret.name }}
      key: {{ .Values.database.existingSecret.key }}
      {{- else if eq $kind "url" }}
      name: {{ include "loraplane.fullname" . }}-secrets
      key: database-url
      {{- else }}
      name: {{ include "loraplane.fullname" . }}-postgresql
      key: database-url
      {{- end }}
{{- end -}}
{{- end -}}
