{{/* The Job in which the gate's standalone side computes; the controller fills in what differs per run. */}}

{{- define "loraplane.referenceJob" -}}
{{- $r := .Values.reference -}}
{{- $me := dict "root" $ "component" "reference" "of" $r -}}
apiVersion: batch/v1
kind: Job
metadata:
  # The controller adds a mark of the template: Jobs of two templates are two.
  name: {{ include "loraplane.fullname" . }}-reference
  labels:
    {{- include "loraplane.labels" $me | nindent 4 }}
spec:
  backoffLimit: {{ $r.backoffLimit }}
  {{- with $r.activeDeadlineSeconds }}
  activeDeadlineSeconds: {{ . | int64 }}
  {{- end }}
  ttlSecondsAfterFinished: {{ $r.ttlSecondsAfterFinished }}
  completions: 1
  parallelism: 1
  template:
    metadata:
      labels:
        {{- include "loraplane.podLabels" $me | nindent 8 }}
      {{- with $r.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      {{- with include "loraplane.pullSecrets" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      serviceAccountName: {{ include "loraplane.serviceAccountName" (dict "root" $ "component" "reference" "account" $r.serviceAccount) }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $r.gpu.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      securityContext:
        {{- include "loraplane.podSecurityContext" . | nindent 8 }}
      {{- with include "loraplane.placement" $me | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: reference
          image: {{ include "loraplane.image" (dict "root" $ "image" $r.image) }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          terminationMessagePolicy: FallbackToLogsOnError
          command: ["python3", "-m", "adapters.parity.reference_server"]
          ports:
            - name: reference
              containerPort: 8600
          env:
            - name: LORAPLANE_REFERENCE_HOST
              value: {{ .Values.bindAddress | quote }}
            - name: LORAPLANE_REFERENCE_PORT
              value: "8600"
            - name: LORAPLANE_REFERENCE_SCRATCH
              value: /tmp
            - name: LORAPLANE_REFERENCE_DEVICE
              value: {{ include "loraplane.referenceDevice" . }}
            - name: LORAPLANE_STORE_URL
              value: {{ include "loraplane.storeUrl" . | quote }}
            {{- include "loraplane.referenceTokenEnv" . | nindent 12 }}
            {{- with include "loraplane.storeEnv" (dict "root" $ "readOnly" true) | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- include "loraplane.modelEnv" . | nindent 12 }}
            {{- include "loraplane.writableEnv" . | nindent 12 }}
            {{- with $r.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          securityContext:
            {{- include "loraplane.containerSecurityContext" . | nindent 12 }}
          resources:
            {{- include "loraplane.withGpus" (dict "resources" $r.resources "gpu" $r.gpu "count" $r.gpu.count) | nindent 12 }}
          volumeMounts:
            {{- include "loraplane.scratchMounts" . | nindent 12 }}
            {{- with include "loraplane.modelMounts" $me | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with include "loraplane.storeMounts" (dict "root" $ "readOnly" true) | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $r.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: {{ $r.scratchSize }}
        - name: cache
          emptyDir:
            sizeLimit: {{ $r.scratchSize }}
        {{- with include "loraplane.modelVolumes" $me | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "loraplane.storeVolumes" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $r.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
