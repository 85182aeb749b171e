{{/*
The environment of each component. `settings` of the values comes last, so that it wins.
Short host names: the pod's first search domain completes them, which is one look-up. A name with
dots would be tried in each search domain first (ndots:5), once a second.
*/}}
{{- define "evenkeel.settings" -}}
{{- $full := include "evenkeel.fullname" .root -}}
{{- $own := dict -}}
{{- $upper := upper .component -}}
{{- $component := .component -}}
{{- $elsewhere := dict
  (printf "%s_STOP_QUIET" $upper) "stopQuietSeconds"
  (printf "%s_STOP_MAX" $upper) "stopMaxSeconds, which the grace period follows" -}}
{{- range $name, $value := $elsewhere -}}
  {{- if hasKey $.values.settings $name -}}
    {{- fail (printf "%s.settings.%s: set %s.%s instead" $component $name $component $value) -}}
  {{- end -}}
{{- end -}}
{{- range $name := list (printf "%s_PORT" $upper) "PROXY_ADMIN_PORT" -}}
  {{- if hasKey $.values.settings $name -}}
    {{- fail (printf "%s.settings.%s: the port inside the pod is fixed, since probes and Services go to it; set %s.service.port for the one outside" $component $name $component) -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $own (printf "%s_STOP_QUIET" $upper) (printf "%ds" (int .values.stopQuietSeconds)) -}}
{{- $_ := set $own (printf "%s_STOP_MAX" $upper) (printf "%ds" (int .values.stopMaxSeconds)) -}}
{{- $_ := set $own (printf "%s_LOG" $upper) .root.Values.log.level -}}
{{- $_ := set $own (printf "%s_LOG_FORMAT" $upper) .root.Values.log.format -}}
{{- if eq .component "proxy" -}}
  {{- $backends := .values.backends -}}
  {{- $watched := include "evenkeel.watched" .root -}}
  {{- if not $backends -}}
    {{- if not .root.Values.server.enabled -}}
      {{- fail "proxy.backends must say what to balance (such as dns://my-app-headless:8080) when server.enabled is false" -}}
    {{- end -}}
    {{- $backends = ternary (printf "kubernetes://%s:http" $watched) (printf "dns://%s-server:8081" $full) (not (empty $watched)) -}}
  {{- end -}}
  {{- $_ := set $own "PROXY_BACKENDS" $backends -}}
  {{- $_ := set $own "PROXY_POLICY" .values.policy -}}
  {{- $_ := set $own "PROXY_PROBE" (.values.probe | default "off") -}}
  {{- $_ := set $own "PROXY_PROBE_PATH" .values.probePath -}}
  {{- $_ := set $own "PROXY_ADMIN_TOKEN_FILE" "/etc/evenkeel/admin/token" -}}
  {{- if .root.Values.readToken.enabled -}}
    {{- $_ := set $own "PROXY_ADMIN_READ_TOKEN_FILE" "/etc/evenkeel/read/token" -}}
  {{- end -}}
  {{- if .values.data.enabled -}}
    {{- $_ := set $own "PROXY_STATE_FILE" "/var/lib/evenkeel/state.json" -}}
    {{- $_ := set $own "PROXY_AUDIT_LOG" "/var/lib/evenkeel/audit.log" -}}
  {{- end -}}
  {{- with .values.sticky.cookie -}}
    {{- $_ := set $own "PROXY_STICKY_COOKIE" . -}}
    {{- $_ := set $own "PROXY_STICKY_TTL" $.values.sticky.ttl -}}
    {{- $_ := set $own "PROXY_STICKY_IDLE" $.values.sticky.idle -}}
    {{- $_ := set $own "PROXY_STICKY_SECRET_FILE" "/etc/evenkeel/sticky/key" -}}
  {{- end -}}
{{- else if eq .component "dashboard" -}}
  {{- $_ := set $own "LOAD_BALANCER_URL" (printf "http://%s-proxy:%d" $full (int .root.Values.proxy.service.port)) -}}
  {{- $_ := set $own "LOAD_BALANCER_ADMIN_URL" (printf "http://%s-proxy-admin:9901" $full) -}}
  {{- $_ := set $own "LOAD_BALANCER_ADMIN_TOKEN_FILE" "/etc/evenkeel/admin/token" -}}
  {{- if .root.Values.readToken.enabled -}}
    {{- $_ := set $own "DASHBOARD_READ_TOKEN_FILE" "/etc/evenkeel/read/token" -}}
  {{- end -}}
{{- end -}}
{{- range $name, $value := merge (dict) .values.settings $own }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/*
The time a pod gets to end: what the binary takes at most (STOP_MAX and 3 s for requests in
flight) and a little for the runtime. A shorter one would cut requests, so it is refused.
*/}}
{{- define "evenkeel.gracePeriod" -}}
{{- $least := add .values.stopMaxSeconds 5 -}}
{{- $given := .values.terminationGracePeriodSeconds -}}
{{- if and (not (kindIs "invalid" $given)) (lt (int $given) (int $least)) -}}
  {{- fail (printf "%s.terminationGracePeriodSeconds is %d, but %s.stopMaxSeconds (%d) needs at least %d: requests in flight would be cut" .component (int $given) .component (int .values.stopMaxSeconds) (int $least)) -}}
{{- end -}}
{{- default $least $given -}}
{{- end -}}
