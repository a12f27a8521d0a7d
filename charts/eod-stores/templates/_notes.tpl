{{- /* What Helm says after an install that the chart eod says, too: of a chart below another Helm prints no notes. */ -}}
{{- define "eod-stores.warnings" -}}
{{- $of := ternary "" (printf "%s." .Chart.Name) .Chart.IsRoot -}}
{{- range $store := list "kafka" "redis" "sqlserver" "s3" }}
{{- if and (index $.Values $store).enabled (not (index $.Values $store).persistence.enabled) }}

WARNING: {{ $of }}{{ $store }}.persistence.enabled is false: what {{ $store }} holds is LOST with its pod.
{{- end }}
{{- end }}
{{- if and .Values.kafka.enabled (eq (int .Values.kafka.replicas) 1) }}

WARNING: one broker: while it is away nothing is acknowledged, and a trade is as durable as its one disk.
{{- end }}
{{- if and (not .Values.sqlserver.enabled) (not .Values.sqlserver.tls.ca) }}

WARNING: {{ $of }}sqlserver.tls.ca is empty: the workers send {{ .Values.sqlserver.external.host }} their password whatever certificate it shows. Name who signed it:
  --set-file {{ $of }}sqlserver.tls.ca=authority.pem
{{- end }}
{{- if ne .Values.sqlserver.encryption "require" }}

WARNING: {{ $of }}sqlserver.encryption is {{ .Values.sqlserver.encryption }}: trades may cross the network in the clear.
{{- end }}
{{- if not .Values.networkPolicy.enabled }}

WARNING: {{ $of }}networkPolicy.enabled is false: whoever is in the cluster may connect to the stores.
{{- end }}
{{- end -}}

{{- /* What uninstalling leaves, and how to delete it. */ -}}
{{- define "eod-stores.leaves" -}}
{{- if include "eod-stores.keeps" . }}

Uninstalling leaves the volumes, and the Secrets that they are opened with. To delete both:
  kubectl -n {{ .Release.Namespace }} delete pvc,secret -l app.kubernetes.io/name={{ .Chart.Name }},app.kubernetes.io/instance={{ .Release.Name }}
{{- end }}
{{- end -}}
