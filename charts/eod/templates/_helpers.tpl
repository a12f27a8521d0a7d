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

{{- /* The ConfigMap with reference.yaml, if there is one. */ -}}
{{- define "eod.reference" -}}
{{- if .Values.reference.existingConfigMap -}}
{{- .Values.reference.existingConfigMap -}}
{{- else if .Values.reference.data -}}
{{- include "eod.fullname" . }}-reference
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
