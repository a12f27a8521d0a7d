{{- define "eod-observability.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "eod-observability.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: observability
app.kubernetes.io/part-of: eod
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* config.env of an EodPipeline whose stages send traces; the chart eod uses it, with this chart's context. */ -}}
{{- define "eod-observability.env" -}}
{{- if .Values.otlp.endpoint -}}
{{- range list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_TRACES_SAMPLER" "OTEL_TRACES_SAMPLER_ARG" }}
- name: {{ . }}
  valueFrom:
    configMapKeyRef:
      name: {{ include "eod-observability.fullname" $ }}
      key: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- /* TCP port that traces go to; nothing where they go nowhere. */ -}}
{{- define "eod-observability.port" -}}
{{- with .Values.otlp.endpoint -}}
{{- $said := regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" -}}
{{- default (ternary "443" "80" (hasPrefix "https:" .)) $said -}}
{{- end -}}
{{- end -}}

{{- /* Whether it scrapes the stages: plain HTTP, without a token. */ -}}
{{- define "eod-observability.scrapes" -}}
{{- if .Values.serviceMonitor.enabled }}true{{ end -}}
{{- end -}}
