{{- define "eod-operator.fullname" -}}
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

{{- /* Of objects without a namespace: two namespaces may hold releases of one name. */ -}}
{{- define "eod-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "eod-operator.fullname" .) -}}
{{- end -}}

{{- define "eod-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "eod-operator.labels" -}}
{{ include "eod-operator.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: eod
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "eod-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "eod-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "eod-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "eod-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
