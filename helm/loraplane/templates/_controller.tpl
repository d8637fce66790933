{{/* The controller's image, environment, probes and resources. */}}

{{/* With runner process the reference computes in the controller's container, which needs torch then. */}}
{{- define "loraplane.controllerImage" -}}
{{- $image := ternary .Values.reference.image .Values.controller.image (eq .Values.reference.runner "process") -}}
{{- include "loraplane.image" (dict "root" $ "image" $image) -}}
{{- end -}}

{{/*
What an engine of a new kind needs first. It may wait for the gate where another engine serves in the
meantime; a single one would be out for as long as the gate takes.
*/}}
{{- define "loraplane.upgrade" -}}
{{- if ne .Values.upgrade "auto" -}}{{ .Values.upgrade }}
{{- else if gt (int (include "loraplane.fewestEngines" .)) 1 -}}gate
{{- else -}}probe
{{- end -}}
{{- end -}}

{{- define "loraplane.fewestEngines" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.engine.replicas .Values.autoscaling.enabled | int64 -}}
{{- end -}}

{{/*
GPUs that were asked for are used, or the reference fails and says so: with auto it would compute on
CPUs, hours instead of minutes, where the GPU's driver is not found in the container.
*/}}
{{- define "loraplane.referenceDevice" -}}
{{- $r := .Values.reference -}}
{{- if and (eq $r.device "auto") (gt (int $r.gpu.count) 0) -}}cuda{{- else -}}{{ $r.device }}{{- end -}}
{{- end -}}

{{- define "loraplane.controllerEnv" -}}
{{- $f := include "loraplane.fullname" . -}}
{{- $profile := .Values.engine.profile -}}
- name: LORAPLANE_KUBERNETES
  value: "true"
- name: LORAPLANE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: LORAPLANE_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: LORAPLANE_LEASE_NAME
  value: {{ $f }}-controller
- name: LORAPLANE_ENGINE_STATEFULSET
  value: {{ $f }}-engine
- name: LORAPLANE_ENGINE_SELECTOR
  value: {{ include "loraplane.selectorLabels" (dict "root" $ "component" "engine") | replace ": " "=" | replace "\n" "," | quote }}
- name: LORAPLANE_LORA_ADAPTERS
  value: {{ .Values.loraAdapters.enabled | quote }}
- name: LORAPLANE_REFERENCE_RUNNER
  value: {{ .Values.reference.runner }}
{{- if eq .Values.reference.runner "job" }}
- name: LORAPLANE_REFERENCE_JOB
  value: /etc/loraplane/job.yaml
{{- end }}
- name: LORAPLANE_REFERENCE_DEVICE
  value: {{ include "loraplane.referenceDevice" . }}
- name: LORAPLANE_UPGRADE
  value: {{ include "loraplane.upgrade" . }}
- name: LORAPLANE_HOST
  value: {{ .Values.bindAddress | quote }}
- name: LORAPLANE_CONTROLLER_PORT
  value: "8400"
- name: LORAPLANE_DATA_DIR
  value: /var/lib/loraplane
- name: LORAPLANE_STORE_URL
  value: {{ include "loraplane.storeUrl" . | quote }}
- name: LORAPLANE_MODEL
  value: {{ include "loraplane.model" . | quote }}
- name: LORAPLANE_FLEET
  value: {{ .Values.model.name | quote }}
- name: LORAPLANE_DTYPE
  value: {{ default "auto" $profile.dtype }}
- name: LORAPLANE_MAX_RANK
  value: {{ default 16 $profile.max_rank | int64 | quote }}
{{- include "loraplane.settingsEnv" (dict "settings" .Values.controller.settings) }}
- name: LORAPLANE_ADMIN_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "loraplane.secretName" . }}
      key: admin-token
{{ include "loraplane.clusterSecretEnv" . }}
{{- if eq .Values.reference.runner "job" }}
{{ include "loraplane.referenceTokenEnv" . }}
{{- end }}
{{- with include "loraplane.databaseEnv" . }}
{{ . }}
{{- end }}
{{- with include "loraplane.storeEnv" (dict "root" $ "readOnly" false) | trim }}
{{ . }}
{{- end }}
{{ include "loraplane.modelEnv" . }}
{{ include "loraplane.writableEnv" . }}
{{- with .Values.controller.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The base model's files are read, from the hub if need be, before the port opens. */}}
{{- define "loraplane.controllerProbes" -}}
{{- $p := .Values.controller.probes -}}
startupProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: {{ $p.startup.periodSeconds }}
  timeoutSeconds: {{ $p.startup.timeoutSeconds }}
  failureThreshold: {{ $p.startup.failureThreshold }}
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: {{ $p.readiness.periodSeconds }}
  timeoutSeconds: {{ $p.readiness.timeoutSeconds }}
  failureThreshold: {{ $p.readiness.failureThreshold }}
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: {{ $p.liveness.periodSeconds }}
  timeoutSeconds: {{ $p.liveness.timeoutSeconds }}
  failureThreshold: {{ $p.liveness.failureThreshold }}
{{- end -}}

{{/* With runner process the reference computes in the controller's container, on its GPUs. */}}
{{- define "loraplane.controllerResources" -}}
{{- $r := deepCopy .Values.controller.resources -}}
{{- if eq .Values.reference.runner "process" -}}
{{- $r = include "loraplane.withGpus" (dict "resources" $r "gpu" .Values.reference.gpu "count" .Values.reference.gpu.count) | fromYaml -}}
{{- end -}}
{{- toYaml $r -}}
{{- end -}}

{{/* Resources with N GPUs added; 0: as they are. Requests of extended resources equal their limits. */}}
{{- define "loraplane.withGpus" -}}
{{- $r := deepCopy .resources -}}
{{- if gt (int .count) 0 -}}
{{- range $part := list "limits" "requests" -}}
{{- $_ := set $r $part (merge (dict $.gpu.resourceName (int $.count)) (default (dict) (get $r $part))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $r -}}
{{- end -}}
