{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "netio.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.repository .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{- define "netio.labels" -}}
app.kubernetes.io/name: netio-operator
app.kubernetes.io/part-of: netio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The NetIOCluster that the values ask for. */}}
{{- define "netio.cluster" -}}
apiVersion: netio.dev/v1alpha1
kind: NetIOCluster
metadata:
  name: netio
  labels:
    {{- include "netio.labels" . | nindent 4 }}
spec:
  image:
    name: {{ include "netio.image" (dict "root" . "name" "netio-agent") }}
    pullPolicy: {{ .Values.image.pullPolicy }}
    {{- with .Values.image.pullSecrets }}
    pullSecrets:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- if .Values.apiServer.host }}
  apiServer:
    host: {{ .Values.apiServer.host | quote }}
    port: {{ .Values.apiServer.port }}
  {{- end }}
  {{- with .Values.network }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* How operator and hooks reach the API server. */}}
{{- define "netio.apiServerEnv" -}}
{{- if .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* The same of something that is not the operator: what selects that must not select it. */}}
{{- define "netio.labelsOf" -}}
{{ include "netio.labels" (index . 0) | replace "app.kubernetes.io/name: netio-operator" (printf "app.kubernetes.io/name: %s" (index . 1)) }}
{{- end }}

{{/* Annotations of what helm uninstall makes, and takes away when it has ended well. */}}
{{- define "netio.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* A Service without address, and the ServiceMonitor that finds by it those who serve
metrics in their nodes' network, also when they are not ready. They name no port in their
pods: of that the scheduler would let only one have it on a node, and updates need two. */}}
{{- define "netio.monitor" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "netio.labels" .root | nindent 4 }}
    netio.dev/metrics: {{ .name }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    app.kubernetes.io/name: {{ .name }}
  ports:
    - name: metrics
      port: {{ .port }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "netio.labels" .root | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      netio.dev/metrics: {{ .name }}
  endpoints:
    - port: metrics
      {{- with .interval }}
      interval: {{ . }}
      {{- end }}
      relabelings:
        # People know nodes by their names.
        - sourceLabels: [__meta_kubernetes_pod_node_name]
          regex: (.+)
          targetLabel: instance
{{- end }}
