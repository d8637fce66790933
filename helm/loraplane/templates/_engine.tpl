{{/* The engine's profile, environment, probes and times. */}}

{{/* The file that LORAPLANE_PROFILE names: values.engine.profile, the model, and the parallel sizes. */}}
{{- define "loraplane.engineProfile" -}}
{{- $e := .Values.engine -}}
{{- $arguments := default (list) $e.profile.extra_arguments -}}
{{- if gt (int $e.tensorParallel) 1 -}}
{{- $arguments = append $arguments (printf "--tensor-parallel-size=%d" (int $e.tensorParallel)) -}}
{{- end -}}
{{- if gt (int $e.pipelineParallel) 1 -}}
{{- $arguments = append $arguments (printf "--pipeline-parallel-size=%d" (int $e.pipelineParallel)) -}}
{{- end -}}
{{- $profile := merge (dict "model" (include "loraplane.model" .)) (deepCopy $e.profile) -}}
{{- if $arguments -}}{{- $_ := set $profile "extra_arguments" $arguments -}}{{- end -}}
{{- toYaml $profile -}}
{{- end -}}

{{/* One engine's GPUs: every stage of the pipeline has its tensor-parallel group. */}}
{{- define "loraplane.engineGpus" -}}
{{- if .Values.engine.gpu.enabled -}}{{ mul (int .Values.engine.tensorParallel) (int .Values.engine.pipelineParallel) }}{{- else -}}0{{- end -}}
{{- end -}}

{{/* Leave, drain, vLLM's own shutdown, and a margin: nothing in flight is cut off by SIGKILL. */}}
{{- define "loraplane.engineGraceSeconds" -}}
{{- $e := .Values.engine -}}
{{- $shutdown := ternary (get $e.profile "shutdown_timeout_seconds") 60 (hasKey $e.profile "shutdown_timeout_seconds") -}}
{{- add (int $e.drain.leaveSeconds) (int $e.drain.timeoutSeconds) (int $shutdown) 30 -}}
{{- end -}}

{{/*
The number of engines, or nothing where a scaler has set it and an upgrade must not touch it.
Until the scaler has, helm alone keeps the number, and leaving it out would mean 1: then it is the
one of now. `helm template` sees no cluster and leaves it out.
*/}}
{{- define "loraplane.engineReplicas" -}}
{{- if not .Values.autoscaling.enabled -}}
{{- .Values.engine.replicas -}}
{{- else -}}
{{- $live := default (dict) (lookup "apps/v1" "StatefulSet" .Release.Namespace (printf "%s-engine" (include "loraplane.fullname" .))) -}}
{{- $others := list -}}
{{- range dig "metadata" "managedFields" (list) $live -}}
{{- if and (hasKey (dig "fieldsV1" "f:spec" (dict) .) "f:replicas") (not (hasPrefix "helm" .manager)) -}}
{{- $others = append $others .manager -}}
{{- end -}}
{{- end -}}
{{- if and $live (not $others) -}}{{ $live.spec.replicas }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "loraplane.engineImage" -}}
{{- $e := .Values.engine -}}
{{- if eq $e.plugin.mode "initContainer" -}}
{{- include "loraplane.image" (dict "root" $ "image" $e.plugin.stockImage "foreign" true) -}}
{{- else -}}
{{- include "loraplane.image" (dict "root" $ "image" $e.image) -}}
{{- end -}}
{{- end -}}

{{/* What of the image makes an engine another build; not its registry, so that a mirror is the same build. */}}
{{- define "loraplane.engineBuildLabel" -}}
{{- $plugin := .Values.engine.plugin -}}
{{- $images := ternary (list $plugin.stockImage $plugin.image) (list .Values.engine.image) (eq $plugin.mode "initContainer") -}}
{{- $labels := list -}}
{{- range $images -}}
{{- $labels = append $labels (default (default $.Chart.AppVersion .tag) .digest) -}}
{{- end -}}
{{- join "+" $labels -}}
{{- end -}}

{{- define "loraplane.engineEnv" -}}
{{- $f := include "loraplane.fullname" . -}}
{{- $e := .Values.engine -}}
- name: LORAPLANE_ENGINE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: LORAPLANE_HOST
  value: {{ .Values.bindAddress | quote }}
- name: LORAPLANE_ENGINE_PORT
  value: "8500"
- name: LORAPLANE_ADVERTISE_URL
  value: http://$(LORAPLANE_ENGINE_ID).{{ $f }}-engine.{{ .Release.Namespace }}.svc:8500
- name: LORAPLANE_CONTROLLER_URL
  value: {{ include "loraplane.controllerUrl" . }}
- name: LORAPLANE_PROFILE
  value: /etc/loraplane/profile.yaml
- name: LORAPLANE_ENGINE_DIR
  value: /var/lib/loraplane
- name: LORAPLANE_FLEET
  value: {{ .Values.model.name | quote }}
- name: LORAPLANE_ENGINE_BUILD_LABEL
  value: {{ include "loraplane.engineBuildLabel" . | quote }}
- name: LORAPLANE_LEAVE_SECONDS
  value: {{ $e.drain.leaveSeconds | int64 | quote }}
- name: LORAPLANE_DRAIN_TIMEOUT_SECONDS
  value: {{ $e.drain.timeoutSeconds | int64 | quote }}
{{- include "loraplane.settingsEnv" (dict "settings" $e.settings) }}
{{ include "loraplane.clusterSecretEnv" . }}
- name: LORAPLANE_METRICS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "loraplane.secretName" . }}
      key: metrics-token
{{- with include "loraplane.storeEnv" (dict "root" $ "readOnly" true) | trim }}
{{ . }}
{{- end }}
{{ include "loraplane.modelEnv" . }}
{{ include "loraplane.writableEnv" . }}
{{ include "loraplane.vllmEnv" . }}
{{- with $e.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What a process with vLLM in it needs beside folders to write. */}}
{{- define "loraplane.vllmEnv" -}}
- name: VLLM_CACHE_ROOT
  value: /var/cache/loraplane/vllm
- name: VLLM_CONFIG_ROOT
  value: /tmp/.config/vllm
- name: NUMBA_CACHE_DIR
  value: /var/cache/loraplane/numba
- name: CUDA_CACHE_PATH
  value: /var/cache/loraplane/cuda
- name: FLASHINFER_WORKSPACE_BASE
  value: /var/cache/loraplane
{{- if eq .Values.engine.plugin.mode "initContainer" }}
- name: PYTHONPATH
  value: /plugin
{{- end }}
{{- end -}}

{{/* Our packages on a shared volume, where the stock image's Python finds them. */}}
{{- define "loraplane.pluginInit" -}}
- name: plugin
  image: {{ include "loraplane.image" (dict "root" $ "image" .Values.engine.plugin.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  terminationMessagePolicy: FallbackToLogsOnError
  command: ["sh", "/usr/local/bin/copy-plugin", "/plugin"]
  securityContext:
    {{- include "loraplane.containerSecurityContext" . | nindent 4 }}
  resources:
    {{- toYaml .Values.engine.plugin.resources | nindent 4 }}
  volumeMounts:
    - name: plugin
      mountPath: /plugin
{{- end -}}

{{/*
Startup and liveness ask for the server, readiness for the proof of every version: an engine that
waits for a gate, or for its controller, is not ready for hours if need be and is not restarted.
*/}}
{{- define "loraplane.engineProbes" -}}
{{- $p := .Values.engine.probes -}}
startupProbe:
  httpGet:
    path: {{ $p.startup.path }}
    port: http
  periodSeconds: {{ $p.startup.periodSeconds }}
  timeoutSeconds: {{ $p.startup.timeoutSeconds }}
  failureThreshold: {{ $p.startup.failureThreshold }}
readinessProbe:
  httpGet:
    path: /ready
    port: http
  periodSeconds: {{ $p.readiness.periodSeconds }}
  timeoutSeconds: {{ $p.readiness.timeoutSeconds }}
  failureThreshold: {{ $p.readiness.failureThreshold }}
livenessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: {{ $p.liveness.periodSeconds }}
  timeoutSeconds: {{ $p.liveness.timeoutSeconds }}
  failureThreshold: {{ $p.liveness.failureThreshold }}
{{- end -}}
