{{- define "tailorbird.name" -}}
{{- printf "%s-tailorbird" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "tailorbird.image" -}}
{{- $repository := required "image.repository: where your registry has the image" .Values.image.repository -}}
{{- $digest := required "image.digest: sha256:… of the image" .Values.image.digest -}}
{{- printf "%s@%s" $repository $digest -}}
{{- end -}}

{{/* Labels of everything; dict of root and component. */}}
{{- define "tailorbird.labels" -}}
app.kubernetes.io/name: tailorbird
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tailorbird.metadata" -}}
{{ include "tailorbird.labels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* settings.yaml: what is no secret and is not set by this chart. */}}
{{- define "tailorbird.settings" -}}
{{- $own := list "database" "artifacts" "host" "port" "tls_cert" "tls_key" "trusted_proxies" "public_urls" "checkpoints" "checkpoint_minutes" "encryption" "compute" "ray_address" -}}
{{- $secret := list "webhook_secret" "tracking_token" "engine_key" "key_service_token" "credentials" -}}
{{- range $setting, $value := .Values.settings -}}
{{- if has $setting $secret -}}{{- fail (printf "settings.%s holds a secret: name it in secretEnvironment" $setting) -}}{{- end -}}
{{- if has $setting $own -}}{{- fail (printf "settings.%s is set by this chart: see values.yaml" $setting) -}}{{- end -}}
{{- end -}}
tenant: {{ required "tenant: the host tenant" .Values.tenant }}
{{- if eq .Values.engine.kind "vllm" }}
engine: vllm
engine_url: http://127.0.0.1:8000
engine_model: base
{{- end }}
{{- with .Values.settings }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Pod: nobody's user, no token of the cluster. */}}
{{- define "tailorbird.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tailorbird.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Environment of a process; dict of root, login (owner, gateway, worker: its user of the database) and role (as in secretEnvironment).
     Passwords are in files. */}}
{{- define "tailorbird.environment" -}}
{{- $database := .root.Values.database -}}
- {name: TAILORBIRD_WORKSPACE, value: /var/lib/tailorbird/workspace}
- name: TAILORBIRD_DATABASE
  value: {{ printf "postgresql://%s@%s:%v/%s%s" (get $database.users .login) (required "database.host" $database.host) $database.port $database.name (empty $database.parameters | ternary "" (printf "?%s" $database.parameters)) | quote }}
- {name: PGPASSFILE, value: /var/lib/tailorbird/secrets/pgpass}
- name: TAILORBIRD_ARTIFACTS
  value: {{ required "artifacts.url: s3://bucket/folder" .root.Values.artifacts.url | quote }}
{{- with .root.Values.artifacts.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .root.Values.artifacts.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- if and .root.Values.artifacts.secretName (ne .login "owner") }}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: /var/lib/tailorbird/secrets/s3}
{{- end }}
{{- /* All know where checkpoints go, so that a fork is found and nobody warns that they stay; the signer alone ships them. */}}
{{- with .root.Values.signer.checkpoints }}
- {name: TAILORBIRD_CHECKPOINTS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .root.Values.encryption.key }}
- {name: TAILORBIRD_ENCRYPTION, value: {{ . | quote }}}
{{- end }}
{{- range $name, $from := .root.Values.secretEnvironment }}
{{- if has $.role $from.roles }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $from.secretName }}, key: {{ $from.key }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Copies settings and secrets into the workspace, for their owner alone: the product refuses a key that others may read, and volumes of
     Secrets are readable by more than one. The owner, who migrates, reads no artifacts. Dict of root, login, and whether identities' keys, TLS, Ray's token come along. */}}
{{- define "tailorbird.prepare" -}}
- name: prepare
  image: {{ include "tailorbird.image" .root }}
  command: [sh, -euc]
  args:
    - |
      umask 077
      cd /var/lib/tailorbird
      mkdir -p workspace/keys workspace/cache secrets
      cp /etc/tailorbird/settings/settings.yaml workspace/settings.yaml
      cp /etc/tailorbird/keys/log.key workspace/keys/log.key
      cp /etc/tailorbird/database/pgpass secrets/pgpass
      {{- if and .root.Values.artifacts.secretName (ne .login "owner") }}
      cp /etc/tailorbird/artifacts/credentials secrets/s3
      {{- end }}
      {{- if and (eq .root.Values.encryption.key "file") (ne .login "owner") }}
      cp /etc/tailorbird/encryption/workspace.key workspace.key
      {{- end }}
      {{- if .tenants }}
      {{- range .root.Values.keys.tenants }}
      mkdir -p workspace/keys/{{ . }}
      cp /etc/tailorbird/keys/{{ . }}.worker.key workspace/keys/{{ . }}/worker.key
      {{- end }}
      {{- end }}
      {{- if .tls }}
      cp /etc/tailorbird/tls/tls.crt secrets/tls.crt
      cp /etc/tailorbird/tls/tls.key secrets/tls.key
      {{- end }}
      {{- if .ray }}
      cp /etc/tailorbird/ray/auth_token /run/tailorbird-ray/auth_token
      {{- end }}
  securityContext: {{- include "tailorbird.security" .root | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: state, mountPath: /var/lib/tailorbird}
    - {name: settings, mountPath: /etc/tailorbird/settings, readOnly: true}
    - {name: keys, mountPath: /etc/tailorbird/keys, readOnly: true}
    - {name: database, mountPath: /etc/tailorbird/database, readOnly: true}
    {{- if and .root.Values.artifacts.secretName (ne .login "owner") }}
    - {name: artifacts, mountPath: /etc/tailorbird/artifacts, readOnly: true}
    {{- end }}
    {{- if and (eq .root.Values.encryption.key "file") (ne .login "owner") }}
    - {name: encryption, mountPath: /etc/tailorbird/encryption, readOnly: true}
    {{- end }}
    {{- if .tls }}
    - {name: tls, mountPath: /etc/tailorbird/tls, readOnly: true}
    {{- end }}
    {{- if .ray }}
    - {name: ray, mountPath: /etc/tailorbird/ray, readOnly: true}
    - {name: ray-token, mountPath: /run/tailorbird-ray}
    {{- end }}
{{- end -}}

{{/* Volumes: sources of what `prepare` copies, which no other container mounts, and what the process writes to. */}}
{{- define "tailorbird.volumes" -}}
- name: settings
  configMap: {name: {{ .settings }}}
- name: keys
  secret:
    secretName: {{ .root.Values.keys.secretName }}
    items:
      - {key: log.key, path: log.key}
      {{- if .tenants }}
      {{- range .root.Values.keys.tenants }}
      - {key: {{ . }}.worker.key, path: {{ . }}.worker.key}
      {{- end }}
      {{- end }}
- name: database
  secret:
    secretName: {{ .root.Values.database.secretName }}
    items: [{key: {{ .login }}, path: pgpass}]
{{- with .root.Values.database.ca.configMapName }}
- name: database-ca
  configMap:
    name: {{ . }}
    items: [{key: {{ $.root.Values.database.ca.key }}, path: ca.crt}]
{{- end }}
{{- if and .root.Values.artifacts.secretName (ne .login "owner") }}
- name: artifacts
  secret:
    secretName: {{ .root.Values.artifacts.secretName }}
    items: [{key: credentials, path: credentials}]
{{- end }}
{{- if and (eq .root.Values.encryption.key "file") (ne .login "owner") }}
- name: encryption
  secret:
    secretName: {{ required "encryption.secretName" .root.Values.encryption.secretName }}
    items: [{key: workspace.key, path: workspace.key}]
{{- end }}
{{- if .tls }}
- name: tls
  secret: {secretName: {{ .tls }}}
{{- end }}
{{- if .ray }}
- name: ray
  secret:
    secretName: {{ .root.Values.ray.tokenSecretName }}
    items: [{key: auth_token, path: auth_token}]
- name: ray-token
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .memory }}}
{{- end -}}

{{- define "tailorbird.mounts" -}}
- {name: state, mountPath: /var/lib/tailorbird}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.database.ca.configMapName }}
- {name: database-ca, mountPath: /etc/tailorbird/database, readOnly: true}
{{- end }}
{{- end -}}

{{/* A volume of one pod; dict of size and className. */}}
{{- define "tailorbird.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ .size }}}
{{- end -}}
