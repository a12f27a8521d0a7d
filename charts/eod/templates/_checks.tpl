{{- /* Values that fit the schema one by one and not together. */ -}}
{{- define "eod.checks" -}}
{{- $fix := .Values.fix -}}
{{- $pipeline := .Values.pipeline -}}
{{- $reference := .Values.reference -}}
{{- if and $fix.tls.clientCertificates (not $fix.tls.existingSecret) -}}
{{- fail "fix.tls.clientCertificates wants fix.tls.existingSecret: without our certificate FIX is plain TCP, and nobody shows one" -}}
{{- end -}}
{{- if and $fix.existingConfigMap $fix.sessions -}}
{{- fail (printf "fix.sessions and fix.existingConfigMap are both set, and only one can say who may log on: move the sessions into the ConfigMap %s, or set fix.existingConfigMap to \"\"" $fix.existingConfigMap) -}}
{{- end -}}
{{- $side := "([^ /:>]([^/:>]*[^ /:>])?|[^ /:>][^/:>]*/[^/:>]*[^ /:>])" -}}
{{- range $name, $terms := $fix.sessions -}}
{{- if not (regexMatch (printf `^(FIX\.4\.2:)?%s->%s$` $side $side) $name) -}}
{{- fail (printf "fix.sessions %q is no name of a session: write SENDER->TARGET as the counterparty does, with FIX.4.2: in front for that version, and /SUBID behind a side that has one" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (or $fix.tls.clientCertificates $pipeline.spec.config) -}}
{{- $asked := list -}}
{{- range $pipeline.env -}}{{- $asked = append $asked .name -}}{{- end -}}
{{- range $name, $terms := $fix.sessions -}}
{{- if and $terms.certificate (not (has "EOD_FIX_TLS_CA_FILE" $asked)) -}}
{{- fail (printf "fix.sessions %q names a certificate, and nobody is asked for any: ingestion would not start. Set fix.tls.clientCertificates, or take it out" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $fix.enabled $fix.sourceRanges (ne $fix.type "LoadBalancer") -}}
{{- fail (printf "fix.sourceRanges restricts nobody with fix.type %s: set fix.type to LoadBalancer, or take fix.sourceRanges out and restrict by a NetworkPolicy or by addresses in fix.sessions" $fix.type) -}}
{{- end -}}
{{- if and $fix.enabled $fix.nodePort (eq $fix.type "ClusterIP") -}}
{{- fail (printf "fix.nodePort %d is a port of the nodes, and fix.type ClusterIP opens none: set fix.type to NodePort or LoadBalancer, or fix.nodePort to 0" (int $fix.nodePort)) -}}
{{- end -}}
{{- if and $reference.data $reference.existingConfigMap -}}
{{- fail (printf "reference.data and reference.existingConfigMap are both set, and only one can be read: move the data into the ConfigMap %s, or set reference.existingConfigMap to \"\"" $reference.existingConfigMap) -}}
{{- end -}}
{{- with $reference.data -}}
{{- with (fromYaml .).Error -}}
{{- fail (printf "reference.data is no YAML mapping, such as \"traders: {}\": %s; mend it, or name its file with --set-file reference.data=reference.yaml" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.reconcile.enabled (not .Values.install.stores) -}}
{{- fail "reconcile.enabled wants install.stores: the CronJob is told where the stores are by eod-stores, which may name your own (kafka.external, redis.external, ...); or set reconcile.enabled to false" -}}
{{- end -}}
{{- if $pipeline.enabled -}}
{{- include "eod.checkStages" . -}}
{{- if .Values.install.operator -}}
{{- $watched := index .Values "eod-operator" "watchNamespaces" -}}
{{- if and $watched (not (has .Release.Namespace $watched)) -}}
{{- fail (printf "eod-operator.watchNamespaces is %s, without %s, where this release makes its pipeline: nobody would act on it. Add %s, or set pipeline.enabled to false" (join ", " $watched) .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- /* What pipeline.spec says itself may be of another Kafka, or of topics with copies of their own. */ -}}
{{- if and .Values.install.stores $pipeline.topics.create (not $pipeline.spec.kafka) (not $pipeline.spec.topics) -}}
{{- $kafka := index .Values "eod-stores" "kafka" -}}
{{- if and $kafka.enabled (gt (int $pipeline.topics.replicationFactor) (int $kafka.replicas)) -}}
{{- fail (printf "pipeline.topics.replicationFactor %d is more than eod-stores.kafka.replicas, which is %d: no topic could be made. Set it to %d at most, or to 0 for the brokers' default, or run more brokers" (int $pipeline.topics.replicationFactor) (int $kafka.replicas) (int $kafka.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A list that Helm has replaced where one entry of it was meant. */ -}}
{{- define "eod.checkStages" -}}
{{- $where := ternary "pipeline.spec.stages" "pipeline.stages" (hasKey .Values.pipeline.spec "stages") -}}
{{- range $index, $stage := get (ternary .Values.pipeline.spec .Values.pipeline (hasKey .Values.pipeline.spec "stages")) "stages" -}}
{{- $lacks := list -}}
{{- range list "name" "kind" -}}
{{- if not (get (default dict $stage) .) -}}{{- $lacks = append $lacks . -}}{{- end -}}
{{- end -}}
{{- if $lacks -}}
{{- fail (printf "%s[%d] has no %s: a list given by --set or in a values file replaces the chart's whole list, so give all stages in full; charts/eod/README.md shows how to change one" $where $index (join " and no " $lacks)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
