{{/* Where the base model comes from, the same for controller, engines and reference. */}}

{{/* What LORAPLANE_MODEL and the profile name: a hub id, or a folder in the pods. */}}
{{- define "loraplane.model" -}}
{{- $m := .Values.model -}}
{{- if eq $m.source "hub" -}}{{ $m.id }}
{{- else if $m.path -}}/models/{{ trimAll "/" $m.path }}
{{- else -}}/models
{{- end -}}
{{- end -}}

{{/* The hub cache's volume as the controller, an engine or a reference sees it. Arguments: (dict "root" $ "component" "engine"). */}}
{{- define "loraplane.modelVolumes" -}}
{{- $m := .root.Values.model -}}
{{- if eq $m.source "pvc" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ $m.pvc.claimName }}
    readOnly: true
{{- else if eq $m.source "hostPath" }}
- name: model
  hostPath:
    path: {{ $m.hostPath.path }}
    type: Directory
{{- else if eq $m.source "image" }}
- name: model
  image:
    reference: {{ $m.image.reference }}
    pullPolicy: {{ $m.image.pullPolicy }}
{{- else if eq $m.cache.type "pvc" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-model-cache" (include "loraplane.fullname" .root)) $m.cache.existingClaim }}
{{- else if eq $m.cache.type "hostPath" }}
- name: model
  hostPath:
    path: {{ $m.cache.hostPath }}
    # Not made here: the kubelet would make it root's, which these pods cannot write.
    type: Directory
{{- else if or (eq $m.cache.type "emptyDir") (ne .component "engine") }}
- name: model
  emptyDir:
    sizeLimit: {{ $m.cache.size }}
{{- end }}
{{- end -}}

{{/* With cache.type perEngine an engine's volume "model" is a claim of the StatefulSet's own. */}}
{{- define "loraplane.modelMounts" -}}
{{- $m := .root.Values.model -}}
{{- if eq $m.source "hub" }}
- name: model
  mountPath: /var/cache/huggingface
{{- else }}
- name: model
  mountPath: /models
  readOnly: true
  {{- if and (eq $m.source "pvc") $m.pvc.subPath }}
  subPath: {{ $m.pvc.subPath }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "loraplane.modelEnv" -}}
{{- $m := .Values.model -}}
- name: HF_HOME
  value: {{ ternary "/var/cache/huggingface" "/var/cache/loraplane/huggingface" (eq $m.source "hub") }}
{{- if or $m.hub.offline (ne $m.source "hub") }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- if eq $m.source "hub" }}
{{- with $m.hub.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with $m.hub.tokenSecret }}
{{- if .name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
