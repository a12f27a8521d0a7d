{{- /* What Helm says after an install that the chart eod says, too: of a chart below another Helm prints no notes. */ -}}
{{- define "eod-operator.where" -}}
The operator runs as {{ include "eod-operator.fullname" . }} in namespace {{ .Release.Namespace }}, {{ .Values.replicas }} replica{{ if gt (int .Values.replicas) 1 }}s{{ end }}, and watches {{ if .Values.watchNamespaces }}{{ join ", " .Values.watchNamespaces }}{{ else }}every namespace{{ end }}.
{{- end -}}

{{- define "eod-operator.warnings" -}}
{{- $of := ternary "" (printf "%s." .Chart.Name) .Chart.IsRoot -}}
{{- range include "eod-operator.others" . | fromYamlArray }}

WARNING: two operators act on the same pipelines: this one, and that of release {{ .release }} in namespace {{ .namespace }},
which watches {{ .where }} ({{ .binding }}).
Name other namespaces in {{ $of }}watchNamespaces of each, or have one operator alone: in the chart eod by install.operator=false
in the second release.
{{- end }}
{{- end -}}

{{- /*
Operators of other releases that act where this one does, as a list: by the bindings of their rights. Each has a
ClusterRoleBinding for discovery, and one more if it acts in all namespaces; else it has a RoleBinding in each of its own.
Helm's lookup fails, and with it the install, for who may not list ClusterRoleBindings. That is accepted: this chart makes
ClusterRoleBindings, so it is installed by who may do much with them. Without a cluster (helm template) there are none.
*/ -}}
{{- define "eod-operator.others" -}}
{{- $api := "rbac.authorization.k8s.io/v1" -}}
{{- $root := . -}}
{{- $found := dict -}}
{{- range (lookup $api "ClusterRoleBinding" "" "").items -}}
{{- $everywhere := not (hasSuffix "-discovery" .roleRef.name) -}}
{{- if or $everywhere (not $root.Values.watchNamespaces) -}}
{{- $where := ternary "every namespace" "some of the namespaces" $everywhere -}}
{{- include "eod-operator.other" (list $root $found . $where) -}}
{{- end -}}
{{- end -}}
{{- range $namespace := .Values.watchNamespaces -}}
{{- range (lookup $api "RoleBinding" $namespace "").items -}}
{{- if eq .roleRef.kind "ClusterRole" -}}
{{- include "eod-operator.other" (list $root $found . (printf "namespace %s" $namespace)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range keys $found | sortAlpha }}
- {{ get $found . | toJson }}
{{- end }}
{{- end -}}

{{- /* Adds the release of a binding to those found, unless it is this one or no operator's; "every namespace" says most. */ -}}
{{- define "eod-operator.other" -}}
{{- $root := index . 0 -}}
{{- $found := index . 1 -}}
{{- $binding := index . 2 -}}
{{- $where := index . 3 -}}
{{- $labels := default dict $binding.metadata.labels -}}
{{- if eq (get $labels "app.kubernetes.io/name") $root.Chart.Name -}}
{{- range $binding.subjects -}}
{{- $release := get $labels "app.kubernetes.io/instance" -}}
{{- $key := printf "%s/%s" .namespace $release -}}
{{- if and (ne $key (printf "%s/%s" $root.Release.Namespace $root.Release.Name)) (or (not (hasKey $found $key)) (eq $where "every namespace")) -}}
{{- $said := dict "release" $release "namespace" .namespace "where" $where "binding" (printf "%s %s" $binding.kind $binding.metadata.name) -}}
{{- $_ := set $found $key $said -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
