{{- /* Names are fixed, whatever the release is called: there is one Forestall in a cluster. */ -}}

{{- define "forestall.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: forestall
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* (component): what selects its pods. It can never change, so nothing of a release or version is in it. */ -}}
{{- define "forestall.selector" -}}
app.kubernetes.io/name: forestall
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* (dict root component): labels of a component's pods. */ -}}
{{- define "forestall.podLabels" -}}
{{- $own := include "forestall.selector" .component | fromYaml }}
{{- $all := include "forestall.labels" .root | fromYaml }}
{{- $given := dict }}
{{- if hasKey .root.Values .component }}
{{- $given = (index .root.Values .component).podLabels }}
{{- end }}
{{- toYaml (merge $own $all $given) }}
{{- end }}

{{- define "forestall.image" -}}
{{- $image := .Values.image }}
{{- $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What every pod's spec begins with. */ -}}
{{- define "forestall.pod" -}}
automountServiceAccountToken: true
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What every container begins with. */ -}}
{{- define "forestall.container" -}}
image: {{ include "forestall.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* (dict component nodes): each revision is spread for itself, or a rollout would put its pods on the free side. */ -}}
{{- define "forestall.spread" -}}
{{- range list (list "kubernetes.io/hostname" .nodes) (list "topology.kubernetes.io/zone" "ScheduleAnyway") }}
- maxSkew: 1
  topologyKey: {{ first . }}
  whenUnsatisfiable: {{ last . }}
  nodeTaintsPolicy: Honor
  labelSelector:
    matchLabels: {{- include "forestall.selector" $.component | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{- /* The configuration file. */ -}}
{{- define "forestall.config" -}}
{{- $config := deepCopy .Values.config }}
{{- with .Values.limitRangeNamespaces }}
{{- $first := first $config.limitRanges | default dict }}
{{- if not $first }}
{{- fail "limitRangeNamespaces is given, and config.limitRanges has no entry whose amounts they could get" }}
{{- end }}
{{- $entry := set (omit $first "namespaceSelector") "namespaces" . }}
{{- $_ := set $config "limitRanges" (append $config.limitRanges $entry) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* JSON list of the policies that some object may be judged by. */ -}}
{{- define "forestall.activePolicies" -}}
{{- $active := list }}
{{- range $id, $declared := include "forestall.policies" . | fromYaml }}
{{- $section := index ($.Values.config.policies | default dict) $id | default dict }}
{{- $modes := list ($section.mode | default $declared.mode) }}
{{- range $.Values.config.overrides }}
{{- $modes = append $modes ((index .policies $id | default dict).mode | default "off") }}
{{- end }}
{{- if and (ne $.Values.config.mode "off") (without $modes "off") }}
{{- $active = append $active $id }}
{{- end }}
{{- end }}
{{- toJson $active }}
{{- end }}

{{- /* RBAC rules to read what the active policies look at. */ -}}
{{- define "forestall.factRules" -}}
{{- $active := include "forestall.activePolicies" . | fromJsonArray }}
{{- $resources := dict }}
{{- range $id, $declared := include "forestall.policies" . | fromYaml }}
{{- if has $id $active }}
{{- range $group, $names := $declared.facts }}
{{- $_ := set $resources $group (concat (index $resources $group | default list) $names | uniq | sortAlpha) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $group, $names := $resources }}
- apiGroups: [{{ $group | quote }}]
  resources: {{ toJson $names }}
  verbs: [get, list, watch]
{{- end }}
{{- end }}
