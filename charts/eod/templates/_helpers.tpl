{{- define "eod.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "eod.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: eod
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "eod.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- /* Where pods of this chart run: a pod's spec, and the scheduling of a pipeline. */ -}}
{{- define "eod.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Ports that the stages connect to, as a list; nothing where the user's own addresses may be among them. */ -}}
{{- define "eod.egressPorts" -}}
{{- $spec := .Values.pipeline.spec -}}
{{- $own := or $spec.kafka $spec.config -}}
{{- range .Values.pipeline.env -}}
{{- if or (hasPrefix "OTEL_EXPORTER_" .name) (has .name (list "EOD_REDIS_URL" "EOD_ARCHIVE_URL" "EOD_S3_ENDPOINT" "EOD_SQLSERVER_HOST" "EOD_SQLSERVER_PORT")) -}}
{{- $own = true -}}
{{- end -}}
{{- end -}}
{{- $stores := index .Subcharts "eod-stores" -}}
{{- if and $stores (not $own) -}}
{{- with include "eod-stores.ports" $stores -}}
{{- $ports := splitList " " . -}}
{{- with (index $.Subcharts "eod-observability") -}}
{{- with include "eod-observability.port" . -}}
{{- $ports = append $ports . -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | join ", " -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The ConfigMap with reference.yaml, if there is one. */ -}}
{{- define "eod.reference" -}}
{{- if .Values.reference.existingConfigMap -}}
{{- .Values.reference.existingConfigMap -}}
{{- else if .Values.reference.data -}}
{{- include "eod.fullname" . }}-reference
{{- end -}}
{{- end -}}

{{- /* Whether ingestion is told who may log on in another way: everybody, or by variables of the user's own. */ -}}
{{- define "eod.admitted" -}}
{{- if .Values.fix.admitAnybody }}anybody{{ end -}}
{{- range .Values.pipeline.env }}
{{- if has .name (list "EOD_FIX_COUNTERPARTIES" "EOD_FIX_ADMIT_ANYBODY" "EOD_FIX_SESSIONS_FILE") }}{{ .name }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The ConfigMap with sessions.yaml, if there is one: without sessions nobody may log on yet, and it is read again. */ -}}
{{- define "eod.sessions" -}}
{{- if .Values.fix.existingConfigMap -}}
{{- .Values.fix.existingConfigMap -}}
{{- else if or .Values.fix.sessions (not (include "eod.admitted" .)) -}}
{{- include "eod.fullname" . }}-fix-sessions
{{- end -}}
{{- end -}}

{{- /* Files of the stages and of the reconciliation: pairs of a folder and a ConfigMap. */ -}}
{{- define "eod.files" -}}
{{- with (index .Subcharts "eod-stores") }}
{{- with include "eod-stores.authorities" . }}
- mountPath: /etc/eod/stores
  configMapRef:
    name: {{ . }}
{{- end }}
{{- end }}
{{- with include "eod.reference" . }}
- mountPath: /etc/eod/reference
  configMapRef:
    name: {{ . }}
{{- end }}
{{- end -}}

{{- /* Files of the stages alone, which look at them again by themselves. */ -}}
{{- define "eod.fixFiles" -}}
{{- with include "eod.sessions" . }}
- mountPath: /etc/eod/fix
  reread: true
  configMapRef:
    name: {{ . }}
{{- end }}
{{- with .Values.fix.tls.existingSecret }}
- mountPath: /etc/eod/fix-tls
  reread: true
  secretRef:
    name: {{ . }}
{{- end }}
{{- end -}}

{{- /* Variables of the stages alone, that name these files; of equal names the user's own wins. */ -}}
{{- define "eod.fixEnv" -}}
{{- $own := list -}}
{{- range .Values.pipeline.env }}{{ $own = append $own .name }}{{ end -}}
{{- $made := list -}}
{{- if include "eod.sessions" . }}
{{- $made = append $made (dict "name" "EOD_FIX_SESSIONS_FILE" "value" "/etc/eod/fix/sessions.yaml") }}
{{- else if .Values.fix.admitAnybody }}
{{- $made = append $made (dict "name" "EOD_FIX_ADMIT_ANYBODY" "value" "true") }}
{{- end -}}
{{- if .Values.fix.tls.existingSecret }}
{{- $made = append $made (dict "name" "EOD_FIX_TLS_CERT_FILE" "value" "/etc/eod/fix-tls/tls.crt") }}
{{- $made = append $made (dict "name" "EOD_FIX_TLS_KEY_FILE" "value" "/etc/eod/fix-tls/tls.key") }}
{{- if .Values.fix.tls.clientCertificates }}
{{- $made = append $made (dict "name" "EOD_FIX_TLS_CA_FILE" "value" "/etc/eod/fix-tls/ca.crt") }}
{{- end }}
{{- end -}}
{{- range $made }}
{{- if not (has .name $own) }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Variables of the stages and of the reconciliation; of equal names the user's own wins. */ -}}
{{- define "eod.env" -}}
{{- $own := list -}}
{{- range .Values.pipeline.env }}{{ $own = append $own .name }}{{ end -}}
{{- $made := list -}}
{{- with (index .Subcharts "eod-stores") }}
{{- $made = concat $made (include "eod-stores.existingEnv" . | fromYamlArray) }}
{{- end -}}
{{- with (index .Subcharts "eod-observability") }}
{{- $made = concat $made (include "eod-observability.env" . | fromYamlArray) }}
{{- end -}}
{{- if include "eod.reference" . }}
{{- $made = append $made (dict "name" "EOD_REFERENCE_FILE" "value" "/etc/eod/reference/reference.yaml") }}
{{- end -}}
{{- range $made }}
{{- if not (has .name $own) }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- range .Values.pipeline.env }}
- {{ toJson . }}
{{- end }}
{{- end -}}
