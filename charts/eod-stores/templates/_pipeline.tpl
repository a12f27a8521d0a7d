{{- /* What a pipeline is told of the stores; the chart eod uses these for its own, with this chart's context. */ -}}

{{- define "eod-stores.bootstrap" -}}
{{- $kafka := .Values.kafka -}}
{{- if not $kafka.enabled -}}
{{- $kafka.external.bootstrapServers -}}
{{- else if $kafka.strimzi.enabled -}}
{{- printf "%s-kafka-bootstrap.%s.svc.%s:9092" (include "eod-stores.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- else -}}
{{- include "eod-stores.host" (list . "kafka") -}}:9092
{{- end -}}
{{- end -}}

{{- define "eod-stores.kafkaProtocol" -}}
{{- $kafka := .Values.kafka -}}
{{- if not $kafka.enabled -}}
{{- $kafka.external.protocol -}}
{{- else -}}
{{- if $kafka.auth.enabled }}SASL_{{ end }}{{ if $kafka.tls.existingSecret }}SSL{{ else }}PLAINTEXT{{ end -}}
{{- end -}}
{{- end -}}

{{- define "eod-stores.kafkaMechanism" -}}
{{- if hasPrefix "SASL_" (include "eod-stores.kafkaProtocol" .) -}}
{{- if .Values.kafka.enabled }}SCRAM-SHA-512{{ else }}{{ .Values.kafka.external.mechanism }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The Secret with username, password and ca.crt; nothing where clients need none. */ -}}
{{- define "eod-stores.kafkaSecret" -}}
{{- $kafka := .Values.kafka -}}
{{- if $kafka.auth.existingSecret -}}
{{- $kafka.auth.existingSecret -}}
{{- else if and $kafka.enabled (or $kafka.auth.enabled $kafka.tls.ca) -}}
{{- include "eod-stores.name" (list . "kafka") -}}
{{- end -}}
{{- end -}}

{{- /* spec.kafka of an EodPipeline. */ -}}
{{- define "eod-stores.pipelineKafka" -}}
bootstrapServers: {{ include "eod-stores.bootstrap" . }}
{{- $protocol := include "eod-stores.kafkaProtocol" . }}
{{- if ne $protocol "PLAINTEXT" }}
security:
  protocol: {{ $protocol }}
  {{- with include "eod-stores.kafkaMechanism" . }}
  mechanism: {{ . }}
  {{- end }}
  {{- with include "eod-stores.kafkaSecret" . }}
  secretRef:
    name: {{ . }}
  {{- end }}
  {{- if eq (include "eod-stores.kafkaMechanism" .) "AWS_MSK_IAM" }}
  awsRegion: {{ .Values.kafka.external.awsRegion }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Variables from Secrets that are the user's own, for a container's env or a pipeline's config.env. */ -}}
{{- define "eod-stores.existingEnv" -}}
{{- range $store, $names := dict "redis" (list "EOD_REDIS_URL") "sqlserver" (list "EOD_SQLSERVER_USER" "EOD_SQLSERVER_PASSWORD") "s3" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") }}
{{- with (index $.Values $store).existingSecret }}
{{- range $names }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ (index $.Values $store).existingSecret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* TCP ports of the stores, in order; nothing where one is elsewhere: what it listens on, and sends its clients to, is not known. */ -}}
{{- define "eod-stores.ports" -}}
{{- with .Values -}}
{{- if and .kafka.enabled .redis.enabled .sqlserver.enabled .s3.enabled -}}
1433 6379 7070 9092
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether the Secret of the chart's own has anything in it. */ -}}
{{- define "eod-stores.ownSecret" -}}
{{- range list "redis" "sqlserver" "s3" -}}
{{- if and (index $.Values .).enabled (not (index $.Values .).existingSecret) }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The ConfigMap of certificates to check the stores' against; it is mounted at /etc/eod/stores. */ -}}
{{- define "eod-stores.authorities" -}}
{{- if or .Values.kafka.tls.ca .Values.redis.tls.ca .Values.sqlserver.tls.ca -}}
{{- include "eod-stores.name" (list . "ca") -}}
{{- end -}}
{{- end -}}

{{- /* envFrom of a container that works on the stores. */ -}}
{{- define "eod-stores.envFrom" -}}
- configMapRef:
    name: {{ include "eod-stores.fullname" . }}
{{- if include "eod-stores.ownSecret" . }}
- secretRef:
    name: {{ include "eod-stores.fullname" . }}
{{- end }}
{{- end -}}

{{- /* What such a container needs besides to reach Kafka; its Secret is mounted at /etc/eod/kafka. */ -}}
{{- define "eod-stores.kafkaEnv" -}}
- name: EOD_KAFKA_BOOTSTRAP
  value: {{ include "eod-stores.bootstrap" . | quote }}
- name: EOD_KAFKA_SECURITY_PROTOCOL
  value: {{ include "eod-stores.kafkaProtocol" . }}
{{- with include "eod-stores.kafkaMechanism" . }}
- name: EOD_KAFKA_SASL_MECHANISM
  value: {{ . }}
{{- if eq . "AWS_MSK_IAM" }}
- name: EOD_KAFKA_AWS_REGION
  value: {{ $.Values.kafka.external.awsRegion }}
{{- else }}
{{- range $variable, $key := dict "EOD_KAFKA_USERNAME" "username" "EOD_KAFKA_PASSWORD" "password" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "eod-stores.kafkaSecret" $ }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (hasSuffix "SSL" (include "eod-stores.kafkaProtocol" .)) (include "eod-stores.kafkaSecret" .) }}
- name: EOD_KAFKA_TLS_DIR
  value: /etc/eod/kafka
{{- end }}
{{- end -}}
