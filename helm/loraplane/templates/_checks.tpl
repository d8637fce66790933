{{/*
Values that are each right and cannot be together. One define per subject; each prints lines that
begin with "- ", name the values, and say what to set instead. checks.yaml stops at any line.
The schema has said by then that names and types are right.
*/}}

{{- define "loraplane.checks" -}}
{{- range list "registry" "store" "model" "profile" "replay" "reference" "secrets" "images" "variables" -}}
{{- include (printf "loraplane.checks.%s" .) $ -}}
{{- end -}}
{{- end -}}

{{- define "loraplane.checks.registry" -}}
{{- $kind := include "loraplane.databaseKind" . -}}
{{- $db := .Values.database -}}
{{- if and $db.url $db.existingSecret.name }}
- database.url and database.existingSecret.name give the registry in two ways: keep one of them.
{{- end }}
{{- if and (ne $kind "bundled") (ne $kind "sqlite") .Values.postgresql.enabled }}
- postgresql.enabled brings a PostgreSQL that nobody would use, for database.{{ ternary "url" "existingSecret" (eq $kind "url") }} names another one: set postgresql.enabled=false.
{{- end }}
{{- if and (eq $kind "sqlite") (gt (int .Values.controller.replicas) 1) }}
- controller.replicas is {{ .Values.controller.replicas }}, and the registry is a SQLite file, which one controller alone can use: set database.existingSecret.name (or database.url, or postgresql.enabled=true), or controller.replicas=1.
{{- end }}
{{- if and (ne $kind "sqlite") .Values.controller.persistence.existingClaim }}
- controller.persistence.existingClaim is for the SQLite registry, and the registry is PostgreSQL: leave it empty.
{{- end }}
{{- end -}}

{{- define "loraplane.checks.store" -}}
{{- $s := .Values.store -}}
{{- $scheme := get (dict "s3" "s3://" "gcs" "gs://" "azure" "az://") $s.type -}}
{{- if eq $s.type "pvc" }}
{{- if or $s.url $s.existingSecret $s.readerSecret }}
- store.type is pvc, which has neither URL nor credentials: set store.type to s3, gcs or azure, or leave store.url, store.existingSecret and store.readerSecret empty.
{{- end }}
{{- if and (gt (int .Values.controller.replicas) 1) (not $s.pvc.existingClaim) (not (has "ReadWriteMany" $s.pvc.accessModes)) }}
- controller.replicas is {{ .Values.controller.replicas }}, and store.pvc.accessModes is {{ join ", " $s.pvc.accessModes }}: controllers on several nodes need ReadWriteMany there, or store.type s3, gcs or azure.
{{- end }}
{{- else }}
{{- if not (hasPrefix $scheme $s.url) }}
- store.type is {{ $s.type }}: store.url must begin with {{ $scheme }}, and is {{ $s.url | quote }}.
{{- end }}
{{- if and $s.readerSecret (not $s.existingSecret) }}
- store.readerSecret is for engines alone; set store.existingSecret for the controller, too, or use serviceAccount.annotations for both.
{{- end }}
{{- end }}
{{- end -}}

{{- define "loraplane.checks.model" -}}
{{- $m := .Values.model -}}
{{- $wanted := dict "hub" (list "model.id" $m.id) "pvc" (list "model.pvc.claimName" $m.pvc.claimName) "hostPath" (list "model.hostPath.path" $m.hostPath.path) "image" (list "model.image.reference" $m.image.reference) -}}
{{- $need := get $wanted $m.source -}}
{{- if not (index $need 1) }}
- model.source is {{ $m.source }}: set {{ index $need 0 }}.
{{- end }}
{{- if contains ".." $m.path }}
- model.path is {{ $m.path | quote }}: it must lead down, without "..".
{{- end }}
{{- if eq $m.source "hub" }}
{{- if and (eq $m.cache.type "hostPath") (not $m.cache.hostPath) }}
- model.cache.type is hostPath: set model.cache.hostPath to a folder of the nodes that user {{ .Values.podSecurity.runAsUser }} can write.
{{- end }}
{{- if and $m.cache.existingClaim (ne $m.cache.type "pvc") }}
- model.cache.existingClaim is for model.cache.type pvc, which is {{ $m.cache.type }}.
{{- end }}
{{- if and $m.hub.offline (has $m.cache.type (list "emptyDir" "perEngine")) }}
- model.hub.offline is true, and model.cache.type {{ $m.cache.type }} begins empty: use pvc or hostPath with the model in it, or another model.source.
{{- end }}
{{- end }}
{{- end -}}

{{- define "loraplane.checks.profile" -}}
{{- $e := .Values.engine -}}
{{- $p := $e.profile -}}
{{- $slots := int (default 8 $p.gpu_slots) -}}
{{- $least := mul 4 $slots -}}
{{- if and $p.cpu_slots (lt (int $p.cpu_slots) (int $least)) (not (has "cpu_slots" (default (list) $p.waived))) }}
- engine.profile.cpu_slots is {{ int $p.cpu_slots }}, less than 4 x engine.profile.gpu_slots: an adapter that leaves a slot would soon be read from disk again. Set cpu_slots to {{ $least }} or more, or engine.profile.waived=[cpu_slots].
{{- end }}
{{- range $p.extra_arguments }}
{{- if regexMatch "^--(tensor|pipeline)-parallel-size" . }}
- engine.profile.extra_arguments has {{ . }}: set engine.{{ ternary "tensorParallel" "pipelineParallel" (hasPrefix "--tensor" .) }} instead, from which the GPUs are counted.
{{- end }}
{{- end }}
{{- if and $e.gpu.enabled $p.kv_cache_gib }}
- engine.profile.kv_cache_gib is for engines on CPUs, and engine.gpu.enabled is true: use engine.profile.extra_arguments=[--gpu-memory-utilization=...] instead.
{{- end }}
{{- end -}}

{{- define "loraplane.checks.replay" -}}
{{- $w := .Values.replay.window -}}
{{- if and $w.configMap $w.existingClaim }}
- replay.window.configMap and replay.window.existingClaim give the window in two ways: keep one of them.
{{- end }}
{{- if and .Values.replay.enabled (not $w.configMap) (not $w.existingClaim) (regexMatch "[./]" $w.file) }}
- replay.window.file is {{ $w.file }}, a file, and nothing has it: set replay.window.configMap or replay.window.existingClaim, or a built-in shape such as long-prefill.
{{- end }}
{{- end -}}

{{- define "loraplane.checks.reference" -}}
{{- $r := .Values.reference -}}
{{- $l := .Values.loraAdapters -}}
{{- if and (eq $r.device "cpu") (gt (int $r.gpu.count) 0) }}
- reference.device is cpu, and reference.gpu.count is {{ $r.gpu.count }}: it would hold GPUs that it never uses. Set reference.gpu.count=0, or reference.device=auto.
{{- end }}
{{- if and (eq $r.device "cuda") (eq (int $r.gpu.count) 0) }}
- reference.device is cuda, and reference.gpu.count is 0: set a count, or reference.device=cpu.
{{- end }}
{{- $timeout := int64 (default 1800 .Values.controller.settings.gate_timeout_seconds) -}}
{{- $least := mul 4 $timeout }}
{{- if and (eq $r.runner "job") $r.activeDeadlineSeconds (lt (int64 $r.activeDeadlineSeconds) $least) }}
- reference.activeDeadlineSeconds is {{ int64 $r.activeDeadlineSeconds }}, and one evaluation may take {{ $timeout }} s (controller.settings.gate_timeout_seconds): a Job lives for several of them and loads the base model first. Set {{ $least }} or more, or 0 for no limit.
{{- end }}
{{- range $kind, $may := dict "secrets" $l.secrets "configMaps" $l.configMaps }}
{{- if and (eq $may.access "names") (not $may.names) }}
- loraAdapters.{{ $kind }}.access is names: list them in loraAdapters.{{ $kind }}.names.
{{- end }}
{{- if and $may.names (ne $may.access "names") }}
- loraAdapters.{{ $kind }}.names is only for loraAdapters.{{ $kind }}.access=names, which is {{ $may.access }}.
{{- end }}
{{- end }}
{{- end -}}

{{- define "loraplane.checks.secrets" -}}
{{- $s := .Values.secrets -}}
{{- if $s.existingSecret }}
{{- range $name, $given := pick $s "adminToken" "clusterSecret" "metricsToken" "referenceToken" }}
{{- if $given }}
- secrets.existingSecret and secrets.{{ $name }} give a secret in two ways: keep one of them.
{{- end }}
{{- end }}
{{- if eq $s.existingSecret (printf "%s-secrets" (include "loraplane.fullname" $)) }}
- secrets.existingSecret is {{ $s.existingSecret }}, the name of the Secret that the chart makes: give yours another name.
{{- end }}
{{- end }}
{{- end -}}

{{- define "loraplane.checks.images" -}}
{{- $images := dict "controller.image" .Values.controller.image "engine.image" .Values.engine.image "engine.plugin.image" .Values.engine.plugin.image "engine.plugin.stockImage" .Values.engine.plugin.stockImage "reference.image" .Values.reference.image -}}
{{- range $path, $image := $images }}
{{- if and (eq $image.tag "latest") (not $image.digest) }}
- {{ $path }}.tag is latest, which names other bytes tomorrow: give a version, or {{ $path }}.digest.
{{- end }}
{{- end }}
{{- end -}}

{{/* A variable that is set twice: Kubernetes takes the last, and a reader the first. */}}
{{- define "loraplane.checks.variables" -}}
{{- range $component := list "controller" "engine" }}
{{- $seen := dict }}
{{- range include (printf "loraplane.%sEnv" $component) $ | fromYamlArray }}
{{- if hasKey $seen .name }}
- {{ $component }}.extraEnv has {{ .name }}, which the chart sets: see the values for it in docs/helm-values.md.
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end }}
{{- end -}}
