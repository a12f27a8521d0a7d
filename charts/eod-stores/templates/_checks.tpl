{{- /* Values that fit the schema one by one and not together. */ -}}
{{- define "eod-stores.checks" -}}
{{- $kafka := .Values.kafka -}}
{{- $redis := .Values.redis -}}
{{- $sql := .Values.sqlserver -}}
{{- if $kafka.enabled -}}
{{- $there := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "eod-stores.name" (list . "kafka")) -}}
{{- if and $there (ne (int $there.spec.replicas) (int $kafka.replicas)) -}}
{{- fail (printf "kafka.replicas cannot become %d: this release has %d, and new voters that are a majority would choose an empty log. Install a release with %d beside this one and move to it, or keep %d" (int $kafka.replicas) (int $there.spec.replicas) (int $kafka.replicas) (int $there.spec.replicas)) -}}
{{- end -}}
{{- if and $kafka.strimzi.enabled $kafka.nodeSelector -}}
{{- fail "kafka.nodeSelector means nothing to Strimzi: say it as kafka.affinity.nodeAffinity" -}}
{{- end -}}
{{- if and $kafka.tls.existingSecret (not $kafka.tls.ca) -}}
{{- fail "kafka.tls.ca is needed with kafka.tls.existingSecret: clients check the brokers' certificates against it, and it is no secret" -}}
{{- end -}}
{{- else -}}
{{- if not $kafka.external.bootstrapServers -}}
{{- fail "kafka.external.bootstrapServers is needed when kafka.enabled is false: host:port of brokers to start from" -}}
{{- end -}}
{{- if $kafka.strimzi.enabled -}}
{{- fail "kafka.strimzi.enabled wants kafka.enabled: Strimzi runs Kafka here, kafka.external is one elsewhere" -}}
{{- end -}}
{{- if eq (include "eod-stores.kafkaMechanism" .) "AWS_MSK_IAM" -}}
{{- if or (ne $kafka.external.protocol "SASL_SSL") (not $kafka.external.awsRegion) -}}
{{- fail "kafka.external.mechanism AWS_MSK_IAM wants kafka.external.protocol SASL_SSL and kafka.external.awsRegion" -}}
{{- end -}}
{{- else if and (hasPrefix "SASL_" $kafka.external.protocol) (not $kafka.auth.existingSecret) -}}
{{- fail (printf "kafka.auth.existingSecret is needed with kafka.external.protocol %s: a Secret with the keys username and password" $kafka.external.protocol) -}}
{{- end -}}
{{- end -}}
{{- if and $redis.tls.existingSecret (not $redis.tls.ca) -}}
{{- fail "redis.tls.ca is needed with redis.tls.existingSecret: clients check the server's certificate against it, and it is no secret" -}}
{{- end -}}
{{- if not (or $redis.enabled $redis.existingSecret $redis.external.url) -}}
{{- fail "redis.existingSecret or redis.external.url is needed when redis.enabled is false: the address of your Redis, with a password or without" -}}
{{- end -}}
{{- if $redis.enabled -}}
{{- with include "eod-stores.limitMebibytes" $redis -}}
{{- if ge (int $redis.maxMemoryMebibytes) (int .) -}}
{{- fail (printf "redis.maxMemoryMebibytes %d does not fit in redis.resources.limits.memory, which is %s MiB: the kernel would end Redis before it refuses anything. Give the pod twice as much, or Redis less" (int $redis.maxMemoryMebibytes) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $kafka.enabled (not $kafka.strimzi.enabled) -}}
{{- with include "eod-stores.limitMebibytes" $kafka -}}
{{- if ge (int $kafka.heapMebibytes) (int .) -}}
{{- fail (printf "kafka.heapMebibytes %d does not fit in kafka.resources.limits.memory, which is %s MiB: give the pod twice as much, or Kafka less" (int $kafka.heapMebibytes) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $sql.enabled -}}
{{- if not $sql.acceptEula -}}
{{- fail "sqlserver.acceptEula is false: SQL Server runs only for those who accept its licence, https://go.microsoft.com/fwlink/?linkid=857698; set it to true if you do, or sqlserver.enabled to false and sqlserver.external.host to a server that you have" -}}
{{- end -}}
{{- if and $sql.tls.existingSecret (not $sql.tls.ca) -}}
{{- fail "sqlserver.tls.ca is needed with sqlserver.tls.existingSecret: clients check the server's certificate against it, and it is no secret" -}}
{{- end -}}
{{- else if not (and $sql.external.host $sql.existingSecret) -}}
{{- fail "sqlserver.external.host and sqlserver.existingSecret are needed when sqlserver.enabled is false: where it is, and a Secret with EOD_SQLSERVER_USER and EOD_SQLSERVER_PASSWORD" -}}
{{- end -}}
{{- end -}}
