{{/* What every pod of the chart shares: who it runs as, where it may write, and how it is placed. */}}

{{/* Pod-level security: a numeric user without rights on the node. */}}
{{- define "loraplane.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsGroup }}
fsGroup: {{ .Values.podSecurity.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "loraplane.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsGroup }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
Folders for what libraries write, all below volumes: the root file system is read-only and the
user has no home. USER and LOGNAME: torch asks for the user's name, and this one has no passwd entry.
*/}}
{{- define "loraplane.writableEnv" -}}
- name: HOME
  value: /tmp
- name: USER
  value: loraplane
- name: LOGNAME
  value: loraplane
- name: TMPDIR
  value: /tmp
- name: XDG_CACHE_HOME
  value: /var/cache/loraplane
- name: XDG_CONFIG_HOME
  value: /tmp/.config
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
- name: TRITON_CACHE_DIR
  value: /var/cache/loraplane/triton
- name: TORCHINDUCTOR_CACHE_DIR
  value: /var/cache/loraplane/inductor
{{- end -}}

{{- define "loraplane.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Placement of a component's pods. Call with (dict "root" $ "component" "engine" "of" .Values.engine). */}}
{{- define "loraplane.placement" -}}
{{- with .of.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $isTogether := and (has .component (list "controller" "engine" "reference" "replay")) (include "loraplane.isOneNode" .root) -}}
{{- with .of.tolerations | default (ternary .root.Values.engine.tolerations list (not (empty $isTogether))) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .of.affinity }}
affinity:
  {{- toYaml .of.affinity | nindent 2 }}
{{- else if $isTogether }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      {{- include "loraplane.together" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Names of the claims of ours that several pods mount: {many: [on many nodes], one: [on one node]}. */}}
{{- define "loraplane.sharedClaims" -}}
{{- $store := .Values.store -}}
{{- $model := .Values.model -}}
{{- $claims := dict -}}
{{- if eq $store.type "pvc" -}}{{- $_ := set $claims "store" $store.pvc -}}{{- end -}}
{{- if and (eq $model.source "hub") (eq $model.cache.type "pvc") -}}{{- $_ := set $claims "model-cache" $model.cache -}}{{- end -}}
{{- $found := dict "many" list "one" list -}}
{{- range $name, $claim := $claims -}}
{{- if not $claim.existingClaim -}}
{{- $nodes := ternary "many" "one" (has "ReadWriteMany" $claim.accessModes) -}}
{{- $_ := set $found $nodes (append (get $found $nodes) (printf "%s-%s" (include "loraplane.fullname" $) $name)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "loraplane.isOneNode" -}}
{{- if (include "loraplane.sharedClaims" . | fromYaml).one -}}true{{- end -}}
{{- end -}}

{{/* Our images, where their names lead to no registry. */}}
{{- define "loraplane.imagesWithoutRegistry" -}}
{{- $plugin := .Values.engine.plugin -}}
{{- $names := list .Values.engine.image.repository -}}
{{- if eq $plugin.mode "initContainer" -}}{{- $names = list $plugin.image.repository -}}{{- end -}}
{{- $names = append $names .Values.reference.image.repository -}}
{{- if eq .Values.reference.runner "job" -}}{{- $names = append $names .Values.controller.image.repository -}}{{- end -}}
{{- $bare := list -}}
{{- if not .Values.image.registry -}}
{{- range $names -}}{{- if not (contains "/" .) -}}{{- $bare = append $bare . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- join ", " $bare -}}
{{- end -}}

{{/*
The node that has the claim. The first engine finds none of the three and may go anywhere, so where its
GPU is; the others, which could run anywhere, come after it. Without engines, whoever is first.
*/}}
{{- define "loraplane.together" -}}
{{- $others := list "controller" "engine" "reference" -}}
{{- if and (ne .component "engine") (gt (int (include "loraplane.fewestEngines" .root)) 0) -}}
{{- $others = list "engine" -}}
{{- end -}}
- topologyKey: kubernetes.io/hostname
  labelSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "loraplane.name" .root }}
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ toJson $others }}}
{{- end -}}

{{/* Given constraints, or a spread over nodes and zones that gives way. Arguments as for placement. */}}
{{- define "loraplane.topologySpread" -}}
topologySpreadConstraints:
{{- if .of.topologySpreadConstraints }}
  {{- toYaml .of.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "loraplane.selectorLabels" (dict "root" $.root "component" $.component) | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A setting of ours by its name in values: (dict "settings" map) -> env entries, sorted by name. */}}
{{- define "loraplane.settingsEnv" -}}
{{- range $name, $value := .settings }}
- name: LORAPLANE_{{ upper $name }}
  value: {{ (ternary (printf "%v" $value) (include "loraplane.number" $value) (kindIs "string" $value)) | quote }}
{{- end }}
{{- end -}}

{{/* Numbers of values are floats in templates: 1000000 must not become 1e+06. */}}
{{- define "loraplane.number" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* Secret values that our processes share. */}}
{{- define "loraplane.clusterSecretEnv" -}}
- name: LORAPLANE_CLUSTER_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ include "loraplane.secretName" . }}
      key: cluster-secret
{{- end -}}

{{/* What a controller shows to the reference's Job; it opens nothing else, for the Job reads what tenants sent. */}}
{{- define "loraplane.referenceTokenEnv" -}}
- name: LORAPLANE_REFERENCE_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "loraplane.secretName" . }}
      key: reference-token
{{- end -}}

{{/* Changes when a secret that values give changes, so that pods follow; generated ones never do. */}}
{{- define "loraplane.secretsChecksum" -}}
{{- $s := .Values.secrets -}}
{{- list $s.existingSecret $s.adminToken $s.clusterSecret $s.metricsToken $s.referenceToken .Values.database.url | toJson | sha256sum -}}
{{- end -}}

{{/* /tmp and the caches of a pod's containers. */}}
{{- define "loraplane.scratchMounts" -}}
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /var/cache/loraplane
{{- end -}}
