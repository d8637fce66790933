{{/* The artifact store: a shared volume, or object storage with credentials from a Secret or an identity. */}}

{{- define "loraplane.storeUrl" -}}
{{- if eq .Values.store.type "pvc" -}}file:///var/lib/loraplane-store{{- else -}}{{ .Values.store.url }}{{- end -}}
{{- end -}}

{{- define "loraplane.storeVolumes" -}}
{{- if eq .Values.store.type "pvc" }}
- name: store
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-store" (include "loraplane.fullname" .)) .Values.store.pvc.existingClaim }}
{{- end }}
{{- end -}}

{{/* Call with (dict "root" $ "readOnly" true): only the controller writes. */}}
{{- define "loraplane.storeMounts" -}}
{{- if eq .root.Values.store.type "pvc" }}
- name: store
  mountPath: /var/lib/loraplane-store
  {{- if .readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{/* What obstore reads: plain facts, and credentials by reference. Call with (dict "root" $ "readOnly" true). */}}
{{- define "loraplane.storeEnv" -}}
{{- $s := .root.Values.store -}}
{{- if eq $s.type "s3" }}
{{- with $s.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with $s.s3.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- if hasPrefix "http://" . }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- else if eq $s.type "azure" }}
{{- with $s.azure.accountName }}
- name: AZURE_STORAGE_ACCOUNT_NAME
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- $secret := ternary (default $s.existingSecret $s.readerSecret) $s.existingSecret .readOnly -}}
{{- if and $secret (ne $s.type "pvc") }}
{{- range $variable, $key := (get $s.secretKeys $s.type) }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end -}}
