{{- /* The pod of both shapes. */}}
{{- define "marrowflag.pod" -}}
metadata:
  labels:
    {{- include "marrowflag.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .Values.podAnnotations .Values.metrics.annotations }}
  annotations:
    {{- if .Values.metrics.annotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8080"
    prometheus.io/path: /metrics
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "marrowflag.serviceAccountName" . }}
  automountServiceAccountToken: false
  # A Service named marrowflag would inject MARROWFLAG_PORT and its like among our settings.
  enableServiceLinks: false
  # 5 s for load balancers, 10 s for requests, 15 s for deliveries on their way, and some to spare.
  terminationGracePeriodSeconds: 40
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    # Not at every start: it would open the identity key on the volume to the group.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: marrowflag
      image: {{ include "marrowflag.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        {{- include "marrowflag.env" . | nindent 8 }}
      ports:
        - name: http
          containerPort: 8080
      # Migrations run before the first request is taken.
      startupProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 120
      livenessProbe:
        httpGet:
          path: /livez
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        # Where SQLite sorts what does not fit into memory.
        - name: tmp
          mountPath: /tmp
        {{- if eq .Values.database.kind "sqlite" }}
        - name: data
          mountPath: /data
        {{- end }}
        {{- if include "marrowflag.files" . }}
        - name: files
          mountPath: /etc/marrowflag/files
          readOnly: true
        {{- end }}
        {{- if .Values.clients.existingSecret }}
        - name: clients
          mountPath: /etc/marrowflag/clients
          readOnly: true
        {{- end }}
        {{- if .Values.fhirServer.smart.existingSecret }}
        - name: smart
          mountPath: /etc/marrowflag/smart
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
    {{- if and (eq .Values.database.kind "sqlite") .Values.database.sqlite.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.database.sqlite.existingClaim }}
    {{- end }}
    {{- with include "marrowflag.files" . }}
    - name: files
      projected:
        defaultMode: 0440
        sources:
          {{- trim . | nindent 10 }}
    {{- end }}
    {{- with .Values.clients.existingSecret }}
    - name: clients
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.fhirServer.smart.existingSecret }}
    - name: smart
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.affinity }}
  affinity:
    {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if eq .Values.database.kind "postgresql" }}
  affinity:
    podAntiAffinity:
      {{- if eq .Values.antiAffinity "required" }}
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "marrowflag.selectorLabels" . | nindent 14 }}
      {{- else }}
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "marrowflag.selectorLabels" . | nindent 16 }}
      {{- end }}
  {{- end }}
{{- end }}

{{- /* Settings, each a variable that `marrowflag serve --help` names. */}}
{{- define "marrowflag.env" -}}
- name: MARROWFLAG_LISTEN
  value: "0.0.0.0:8080"
- name: MARROWFLAG_INSECURE
  value: {{ .Values.insecure | quote }}
- name: MARROWFLAG_DATABASE
  {{- if eq .Values.database.kind "sqlite" }}
  value: sqlite:/data/marrowflag.db
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.postgresql.existingSecret }}
      key: {{ .Values.database.postgresql.key }}
  {{- end }}
{{- if .Values.identityKey.existingSecret }}
- name: MARROWFLAG_IDENTITY_KEY_FILE
  value: /etc/marrowflag/files/identity-key
{{- end }}
{{- with .Values.fhirServer.url }}
- name: MARROWFLAG_FHIR_SERVER
  value: {{ . | quote }}
{{- end }}
{{- if .Values.fhirServer.token.existingSecret }}
- name: MARROWFLAG_FHIR_SERVER_TOKEN_FILE
  value: /etc/marrowflag/files/fhir-server-token
{{- end }}
{{- with .Values.fhirServer }}
{{- if .smart.existingSecret }}
- name: MARROWFLAG_FHIR_SERVER_SMART
  value: /etc/marrowflag/smart/{{ .smart.key }}
{{- end }}
{{- if .clientCertificate.existingSecret }}
- name: MARROWFLAG_FHIR_SERVER_CLIENT_CERT
  value: /etc/marrowflag/files/fhir-server-client.crt
- name: MARROWFLAG_FHIR_SERVER_CLIENT_KEY
  value: /etc/marrowflag/files/fhir-server-client.key
{{- end }}
{{- if .ca.existingConfigMap }}
- name: MARROWFLAG_FHIR_SERVER_CA
  value: /etc/marrowflag/files/fhir-server-ca.crt
{{- end }}
{{- end }}
{{- if .Values.codeMap.existingConfigMap }}
- name: MARROWFLAG_CODE_MAP
  value: /etc/marrowflag/files/code-map.json
{{- end }}
{{- if .Values.clients.existingSecret }}
- name: MARROWFLAG_CLIENTS
  value: /etc/marrowflag/clients/{{ .Values.clients.key }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- /* A number of a values file is a float: 16384 must not become 1.6384e+04. */}}
{{- $value = kindIs "float64" $value | ternary (int64 $value) $value }}
{{- if not (has (toString $value) (list "" "false" "<nil>")) }}
- name: MARROWFLAG_{{ $name | snakecase | upper }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What is mounted at /etc/marrowflag/files: files, so that no secret stands in the environment. */}}
{{- define "marrowflag.files" -}}
{{- if .Values.identityKey.existingSecret }}
- secret:
    name: {{ .Values.identityKey.existingSecret }}
    items:
      - key: {{ .Values.identityKey.key }}
        path: identity-key
{{- end }}
{{- if .Values.fhirServer.token.existingSecret }}
- secret:
    name: {{ .Values.fhirServer.token.existingSecret }}
    items:
      - key: {{ .Values.fhirServer.token.key }}
        path: fhir-server-token
{{- end }}
{{- with .Values.fhirServer.clientCertificate }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: {{ .certificate }}
        path: fhir-server-client.crt
      - key: {{ .key }}
        path: fhir-server-client.key
{{- end }}
{{- end }}
{{- with .Values.fhirServer.ca }}
{{- if .existingConfigMap }}
- configMap:
    name: {{ .existingConfigMap }}
    items:
      - key: {{ .key }}
        path: fhir-server-ca.crt
{{- end }}
{{- end }}
{{- if .Values.codeMap.existingConfigMap }}
- configMap:
    name: {{ .Values.codeMap.existingConfigMap }}
    items:
      - key: {{ .Values.codeMap.key }}
        path: code-map.json
{{- end }}
{{- end }}
