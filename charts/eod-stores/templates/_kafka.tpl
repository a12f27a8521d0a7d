{{- /* Lines of server.properties. Passwords and the pod's own name are read by Kafka's config providers, from mounted Secrets
and the environment, so that no file of ours and no command line has them. */ -}}
{{- define "eod-stores.serverProperties" -}}
{{- $kafka := .Values.kafka -}}
{{- $brokers := printf "%s-brokers.%s.svc.%s" (include "eod-stores.name" (list . "kafka")) .Release.Namespace .Values.clusterDomain -}}
{{- $voters := list -}}
{{- range $id := until (int $kafka.replicas) -}}
{{- $voters = append $voters (printf "%d@%s-%d.%s:9093" $id (include "eod-stores.name" (list $ "kafka")) $id $brokers) -}}
{{- end -}}
{{- $protocol := include "eod-stores.kafkaProtocol" . -}}
{{- $copies := min 3 (int $kafka.replicas) -}}
{{- $insync := max 1 (sub $copies 1) -}}
process.roles=broker,controller
node.id=${env:KAFKA_NODE_ID}
controller.quorum.voters={{ join "," $voters }}
listeners=CLIENTS://:9092,INTERNAL://:9091,CONTROLLER://:9093
advertised.listeners=CLIENTS://${env:POD_NAME}.{{ $brokers }}:9092,INTERNAL://${env:POD_NAME}.{{ $brokers }}:9091
listener.security.protocol.map=CLIENTS:{{ $protocol }},INTERNAL:{{ $protocol }},CONTROLLER:{{ $protocol }}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
log.dirs=/var/lib/kafka/data/log
config.providers=env,directory
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
config.providers.env.param.allowlist.pattern=KAFKA_NODE_ID|POD_NAME
config.providers.directory.class=org.apache.kafka.common.config.provider.DirectoryConfigProvider
config.providers.directory.param.allowed.paths=/etc/eod
{{- if $kafka.auth.enabled }}
{{- $password := "password=\"${directory:/etc/eod/servers:kafka-broker-password}\"" }}

# Clients and brokers by SCRAM. Controllers keep the SCRAM credentials, so they cannot be asked for them by who wants to reach
# them: there it is PLAIN.
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.internal.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.internal.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="eod-broker" {{ $password }};
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="eod-broker" {{ $password }} user_eod-broker="${directory:/etc/eod/servers:kafka-broker-password}";
{{- end }}
{{- if $kafka.tls.existingSecret }}

ssl.keystore.type=PEM
ssl.keystore.certificate.chain=${directory:/etc/eod/tls:tls.crt}
ssl.keystore.key=${directory:/etc/eod/tls:tls.key}
ssl.truststore.type=PEM
ssl.truststore.certificates=${directory:/etc/eod/stores:kafka.crt}
{{- end }}

# A record is there when as many brokers have it as may not be lost at once, plus one; producers ask for acks=all.
default.replication.factor={{ $copies }}
min.insync.replicas={{ $insync }}
offsets.topic.replication.factor={{ $copies }}
transaction.state.log.replication.factor={{ $copies }}
transaction.state.log.min.isr={{ $insync }}
share.coordinator.state.topic.replication.factor={{ $copies }}
share.coordinator.state.topic.min.isr={{ $insync }}
unclean.leader.election.enable=false

# A topic exists because somebody made it, never because somebody misspelt one.
auto.create.topics.enable=false
# A batch of 500 trades with their frames.
message.max.bytes=4194304
{{- range $name, $value := $kafka.config }}
{{ $name }}={{ $value }}
{{- end }}
{{- end -}}

{{- /* How clients of Kafka's own log in: the test. */ -}}
{{- define "eod-stores.clientProperties" -}}
{{- $protocol := include "eod-stores.kafkaProtocol" . -}}
bootstrap.servers={{ include "eod-stores.bootstrap" . }}
security.protocol={{ $protocol }}
config.providers=directory
config.providers.directory.class=org.apache.kafka.common.config.provider.DirectoryConfigProvider
{{- if .Values.kafka.auth.enabled }}
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="${directory:/etc/eod/client:username}" password="${directory:/etc/eod/client:password}";
{{- end }}
{{- if .Values.kafka.tls.existingSecret }}
ssl.truststore.type=PEM
ssl.truststore.certificates=${directory:/etc/eod/stores:kafka.crt}
{{- end }}
{{- end -}}

{{- /* The container's script: format the volume once, then start. Arguments with passwords go through a file, which is gone
before Kafka starts; what the format prints of credentials is not for a log. */ -}}
{{- define "eod-stores.kafkaStart" -}}
set -eu
umask 077
export KAFKA_NODE_ID="${POD_NAME##*-}"
printf '%s\n' format --ignore-formatted --config /etc/eod/kafka/server.properties --cluster-id "$KAFKA_CLUSTER_ID" >/run/eod/format
{{- if .Values.kafka.auth.enabled }}
for user in "$(cat /etc/eod/client/username),password=$(cat /etc/eod/client/password)" "eod-broker,password=$(cat /etc/eod/servers/kafka-broker-password)"; do
  printf '%s\n' --add-scram "SCRAM-SHA-512=[name=$user]" >>/run/eod/format
done
{{- end }}
if ! /opt/kafka/bin/kafka-storage.sh @/run/eod/format >/run/eod/formatted 2>&1; then
  grep -v '^Bootstrap metadata' /run/eod/formatted >&2
  exit 1
fi
rm /run/eod/format /run/eod/formatted
exec /opt/kafka/bin/kafka-server-start.sh /etc/eod/kafka/server.properties
{{- end -}}
