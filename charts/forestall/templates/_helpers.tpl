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
{{- $first := first ($config.limitRanges | default list) }}
{{- if not $first }}
{{- fail "limitRangeNamespaces is given, and config.limitRanges has no entry whose amounts they could get" }}
{{- end }}
{{- $entry := set (omit $first "namespaceSelector") "namespaces" . }}
{{- $_ := set $config "limitRanges" (append $config.limitRanges $entry) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* A mode that is given, or its default; false is what YAML makes of an off without quotes. */ -}}
{{- define "forestall.mode" -}}
{{- if kindIs "bool" .given }}off{{ else }}{{ .given | default .default }}{{ end }}
{{- end }}

{{- /* JSON list of the policies that some object may be judged by. */ -}}
{{- define "forestall.activePolicies" -}}
{{- $active := list }}
{{- range $id, $declared := include "forestall.policies" . | fromJson }}
{{- $section := index ($.Values.config.policies | default dict) $id | default dict }}
{{- $modes := list (include "forestall.mode" (dict "given" $section.mode "default" $declared.mode)) }}
{{- range $.Values.config.overrides }}
{{- $modes = append $modes ((index .policies $id | default dict).mode | default "off") }}
{{- end }}
{{- if and (ne (include "forestall.mode" (dict "given" $.Values.config.mode)) "off") (without $modes "off") }}
{{- $active = append $active $id }}
{{- end }}
{{- end }}
{{- toJson $active }}
{{- end }}

{{- /* RBAC rules to read what the active policies look at beside the object itself; what they look up one by one, where
a parameter of theirs has to allow it only if it does. */ -}}
{{- define "forestall.factRules" -}}
{{- $active := include "forestall.activePolicies" . | fromJsonArray }}
{{- $declared := list }}
{{- $lookedUp := list }}
{{- range $id, $policy := include "forestall.policies" . | fromJson }}
{{- if has $id $active }}
{{- $declared = append $declared $policy.facts }}
{{- $params := (index ($.Values.config.policies | default dict) $id | default dict).params | default dict }}
{{- range $parameter, $resources := $policy.lookedUp }}
{{- if or (not $parameter) (eq (toString (index $params $parameter)) "true") }}
{{- $lookedUp = append $lookedUp $resources }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- include "forestall.rules" (dict "resources" $declared "verbs" "[get, list, watch]") }}
{{- include "forestall.rules" (dict "resources" $lookedUp "verbs" "[get]") }}
{{- end }}

{{- /* JSON list of what is judged: the workloads, and what active policies and the configuration name besides. */ -}}
{{- define "forestall.judged" -}}
{{- $active := include "forestall.activePolicies" . | fromJsonArray }}
{{- $declared := list (include "forestall.workloads" . | fromJson) }}
{{- range $id, $policy := include "forestall.policies" . | fromJson }}
{{- if has $id $active }}
{{- $declared = append $declared $policy.kinds }}
{{- end }}
{{- end }}
{{- range .Values.config.kinds }}
{{- $declared = append $declared (dict (.group | default "") (list .resource)) }}
{{- end }}
{{- toJson $declared }}
{{- end }}

{{- /* RBAC rules to list what is judged. */ -}}
{{- define "forestall.judgedRules" -}}
{{- include "forestall.rules" (dict "resources" (include "forestall.judged" . | fromJsonArray) "verbs" "[list]") }}
{{- end }}

{{- /* JSON list of what is judged, and of what lives as far as active policies look at it. */ -}}
{{- define "forestall.audited" -}}
{{- $active := include "forestall.activePolicies" . | fromJsonArray }}
{{- $declared := append (include "forestall.judged" . | fromJsonArray) (include "forestall.lives" . | fromJson) }}
{{- range $id, $policy := include "forestall.policies" . | fromJson }}
{{- if has $id $active }}
{{- $declared = append $declared $policy.lives }}
{{- end }}
{{- end }}
{{- toJson $declared }}
{{- end }}

{{- /* RBAC rules to follow what is audited. */ -}}
{{- define "forestall.auditRules" -}}
{{- include "forestall.rules" (dict "resources" (include "forestall.audited" . | fromJsonArray) "verbs" "[get, list, watch]") }}
{{- end }}

{{- /* (dict resources verbs): one rule for each API group; resources is a list of group -> plurals. */ -}}
{{- define "forestall.rules" -}}
{{- $all := dict }}
{{- range .resources }}
{{- range $group, $names := . }}
{{- $_ := set $all $group (concat (index $all $group | default list) $names | uniq | sortAlpha) }}
{{- end }}
{{- end }}
{{- range $group, $names := $all }}
- apiGroups: [{{ $group | quote }}]
  resources: {{ toJson $names }}
  verbs: {{ $.verbs }}
{{- end }}
{{- end }}
