{{- /* Short enough that the names of pods, which are also labels, stay within 63 characters. */ -}}
{{- define "eod-stores.fullname" -}}
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

{{- /* What follows takes a list: the chart's context, and the name of a store or of what else a thing is for. */ -}}

{{- define "eod-stores.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "eod-stores.labels" -}}
{{- $root := index . 0 -}}
{{ include "eod-stores.selector" . }}
app.kubernetes.io/part-of: eod
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "eod-stores.name" -}}
{{- printf "%s-%s" (include "eod-stores.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- /* The name by which others in the cluster find a store. */ -}}
{{- define "eod-stores.host" -}}
{{- $root := index . 0 -}}
{{- printf "%s.%s.svc.%s" (include "eod-stores.name" .) $root.Release.Namespace $root.Values.clusterDomain -}}
{{- end -}}

{{- define "eod-stores.image" -}}
{{- $image := (index (index . 0).Values (index . 1)).image -}}
image: {{ printf "%s:%s" $image.repository $image.tag | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}

{{- define "eod-stores.eodImage" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- /* Who a store's pods are, where they run; its user and the group of its volume. SQL Server's user stays in the group that its
image has put it in: files there are that group's. */ -}}
{{- define "eod-stores.pod" -}}
{{- $root := index . 0 -}}
{{- $store := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "eod-stores.fullname" $root }}
automountServiceAccountToken: false
enableServiceLinks: false # their variables would be taken for settings
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $store.runAsUser }}
  {{- if ne (index . 1) "sqlserver" }}
  runAsGroup: {{ $store.runAsUser }}
  {{- end }}
  fsGroup: {{ $store.runAsUser }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $store.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $store.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $store.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $store.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "eod-stores.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "eod-stores.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* A memory limit in MiB; nothing where there is none, or it is written otherwise than in Mi or Gi. */ -}}
{{- define "eod-stores.limitMebibytes" -}}
{{- $limit := toString (dig "limits" "memory" "" .resources) -}}
{{- if regexMatch "^[0-9]+Mi$" $limit -}}
{{- trimSuffix "Mi" $limit -}}
{{- else if regexMatch "^[0-9]+Gi$" $limit -}}
{{- mul 1024 (int (trimSuffix "Gi" $limit)) -}}
{{- end -}}
{{- end -}}

{{- /* The fields of a StatefulSet that say what becomes of its volumes. */ -}}
{{- define "eod-stores.claims" -}}
{{- $root := index . 0 -}}
{{- $persistence := (index $root.Values (index . 1)).persistence -}}
{{- if $persistence.enabled -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: {{ $root.Values.volumesWhenDeleted }}
  whenScaled: Retain
volumeClaimTemplates:
  - metadata:
      name: data
      labels:
        {{- include "eod-stores.selector" . | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $persistence.size }}
{{- end -}}
{{- end -}}

{{- /* The volume of a store that keeps nothing. */ -}}
{{- define "eod-stores.scratch" -}}
{{- if not (index (index . 0).Values (index . 1)).persistence.enabled -}}
- name: data
  emptyDir: {}
{{- end -}}
{{- end -}}

{{- /* Whether something would be lost with the passwords. */ -}}
{{- define "eod-stores.keeps" -}}
{{- $values := .Values -}}
{{- if eq $values.volumesWhenDeleted "Retain" -}}
{{- range list "kafka" "redis" "sqlserver" "s3" -}}
{{- $store := index $values . -}}
{{- if and $store.enabled $store.persistence.enabled }}yes{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A pod that runs eod against the stores, but for its restartPolicy and its container's name, args and env. */ -}}
{{- define "eod-stores.eodPod" -}}
serviceAccountName: {{ include "eod-stores.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.jobs.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.jobs.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with include "eod-stores.authorities" . }}
  - name: stores
    configMap:
      name: {{ . }}
  {{- end }}
{{- end -}}

{{- define "eod-stores.eodContainer" -}}
{{ include "eod-stores.eodImage" . }}
terminationMessagePolicy: FallbackToLogsOnError # kubectl describe shows its last words
envFrom:
  {{- include "eod-stores.envFrom" . | nindent 2 }}
resources:
  {{- toYaml .Values.jobs.resources | nindent 2 }}
securityContext:
  {{- include "eod-stores.confined" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if include "eod-stores.authorities" . }}
  - {name: stores, mountPath: /etc/eod/stores}
  {{- end }}
{{- end -}}
