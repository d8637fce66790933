{{/*
The Envoy configuration of the front. docs/front.md explains each choice; tests/chart/test_front*.py
hold a real Envoy to them.

loraplane.front.maxEngines: how many engine names the front asks DNS for. Names that do not exist
(yet) are simply no engines, so that `kubectl scale` and autoscaling need no upgrade of the front.
*/}}
{{- define "loraplane.front.maxEngines" -}}
{{- $most := max (int .Values.front.envoy.maxEngines) (int .Values.engine.replicas) }}
{{- if .Values.autoscaling.enabled }}
{{- $most = max $most (int .Values.autoscaling.maxReplicas) }}
{{- end }}
{{- $most }}
{{- end }}

{{- define "loraplane.front.envoyConfig" -}}
{{- $envoy := .Values.front.envoy }}
node: {id: front, cluster: {{ include "loraplane.fullname" . }}-front}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: {{ $envoy.adminPort | int64 }}}}
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ $envoy.maxConnections | int64 }}
static_resources:
  listeners:
    - {{- include "loraplane.front.tenantListener" . | nindent 6 }}
    - {{- include "loraplane.front.metricsListener" . | nindent 6 }}
  clusters:
    - {{- include "loraplane.front.engineCluster" . | nindent 6 }}
    - name: admin
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{ $envoy.adminPort | int64 }}}}}
{{- end }}

{{- define "loraplane.front.tenantListener" -}}
{{- $envoy := .Values.front.envoy -}}
name: tenants
address: {socket_address: {address: {{ default .Values.bindAddress $envoy.bindAddress | quote }}, port_value: {{ $envoy.port }}}}
per_connection_buffer_limit_bytes: 1048576
filter_chains:
  - {{- if .Values.front.tls.secretName }}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
        common_tls_context:
          alpn_protocols: [h2, http/1.1]
          tls_params: {tls_minimum_protocol_version: TLSv1_2}
          # From a file that Envoy watches: a renewed certificate needs no restart.
          tls_certificate_sds_secret_configs:
            - name: front
              sds_config: {path_config_source: {path: /etc/envoy/tls.yaml}}
    {{- end }}
    filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: tenants
          codec_type: AUTO
          server_name: loraplane
          use_remote_address: true
          xff_num_trusted_hops: {{ $envoy.trustedHops | int64 }}
          # Envoy believes its x-envoy-* headers from addresses inside the cluster: with them a client
          # could ask for more retries, and for other timeouts.
          early_header_mutation_extensions:
            - name: envoy.http.early_header_mutation.header_mutation
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                mutations:
                  - remove_on_match: {key_matcher: {prefix: x-envoy-}}
          generate_request_id: true
          preserve_external_request_id: true
          always_set_request_id_in_response: true
          normalize_path: true
          merge_slashes: true
          path_with_escaped_slashes_action: REJECT_REQUEST
          common_http_protocol_options:
            idle_timeout: {{ $envoy.timeouts.connectionIdleSeconds | int64 }}s
            headers_with_underscores_action: REJECT_REQUEST
          http2_protocol_options: {max_concurrent_streams: 1024}
          request_headers_timeout: 10s
          # For the whole of a request's body, which the client sends; not for its answer.
          request_timeout: {{ $envoy.timeouts.requestSeconds | int64 }}s
          stream_idle_timeout: {{ $envoy.timeouts.streamIdleSeconds | int64 }}s
          drain_timeout: 5s
          access_log:
            - {{- include "loraplane.front.accessLog" . | nindent 14 }}
          local_reply_config:
            {{- include "loraplane.front.localReplies" . | nindent 12 }}
          route_config:
            name: tenants
            virtual_hosts:
              - name: tenants
                domains: ["*"]
                request_body_buffer_limit: {{ $envoy.retry.bufferBytes | int64 }}
                routes:
                  - {{- include "loraplane.front.inferenceRoute" . | nindent 20 }}
                  # Everything else: engines' internal routes, /metrics, /health and /ready are not
                  # for tenants. The body is made by local_reply_config.
                  - name: nothing
                    match: {prefix: /}
                    direct_response: {status: 404, body: {inline_string: "There is no such route."}}
          http_filters:
            - name: envoy.filters.http.router
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                suppress_envoy_headers: true
{{- end }}

{{- define "loraplane.front.inferenceRoute" -}}
{{- $envoy := .Values.front.envoy -}}
name: inference
match: {prefix: /v1/}
route:
  cluster: engines
  # No limit on the length of an answer; only a silent one ends.
  timeout: 0s
  idle_timeout: {{ $envoy.timeouts.streamIdleSeconds | int64 }}s
  # A tenant's requests meet one engine, whose slots then hold few distinct adapters. A key ends in
  # its tenant's tag, `lp_SECRET.TAG`; another credential is hashed whole. The first header found
  # decides (`terminal`); a request without one is any engine's to refuse.
  hash_policy:
    - header:
        header_name: authorization
        regex_rewrite: {{- include "loraplane.front.tenantOfKey" . | nindent 10 }}
      terminal: true
    - header:
        header_name: x-api-key
        regex_rewrite: {{- include "loraplane.front.tenantOfKey" . | nindent 10 }}
      terminal: true
  # Before the first byte of an answer only, and only where the engine cannot have begun to compute:
  # no connection, or a refusal (503), which an engine gives before vLLM sees the request. A
  # connection that breaks later is not tried again{{ if $envoy.retry.onReset }} unless nothing was answered yet{{ else }}: what killed one engine would go
  # on to kill the next{{ end }}.
  retry_policy:
    retry_on: connect-failure,refused-stream,reset-before-request,retriable-status-codes{{ if $envoy.retry.onReset }},reset{{ end }}
    retriable_status_codes: [503]
    num_retries: {{ $envoy.retry.attempts | int64 }}
    retry_host_predicate:
      - name: envoy.retry_host_predicates.previous_hosts
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
    host_selection_retry_max_attempts: 16
    retry_back_off: {base_interval: 0.025s, max_interval: 0.25s}
{{- end }}

{{- define "loraplane.front.tenantOfKey" -}}
pattern: {regex: '^(?:[Bb][Ee][Aa][Rr][Ee][Rr] +)?(?:lp_[A-Za-z0-9_-]+\.)?(.*)$'}
substitution: '\1'
{{- end }}

{{- define "loraplane.front.accessLog" -}}
name: envoy.access_loggers.stdout
typed_config:
  "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
  log_format:
    # No header that may hold a key, and no query.
    json_format:
      time: "%START_TIME%"
      method: "%REQ(:METHOD)%"
      path: "%PATH(NQ:PATH)%"
      protocol: "%PROTOCOL%"
      status: "%RESPONSE_CODE%"
      flags: "%RESPONSE_FLAGS%"
      details: "%RESPONSE_CODE_DETAILS%"
      request_bytes: "%BYTES_RECEIVED%"
      response_bytes: "%BYTES_SENT%"
      milliseconds: "%DURATION%"
      milliseconds_to_first_byte: "%RESPONSE_DURATION%"
      attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
      engine: "%UPSTREAM_HOST%"
      client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
      request_id: "%REQ(X-REQUEST-ID)%"
      user_agent: "%REQ(USER-AGENT)%"
{{- end }}

{{- define "loraplane.front.localReplies" -}}
{{/* What Envoy itself answers, in the shape of OpenAI's errors, so that clients need no second parser. */ -}}
{{- $again := list (dict "header" (dict "key" "retry-after" "value" "2")) -}}
mappers:
  - filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 503, runtime_key: front.unavailable}}}}
    headers_to_add: {{ $again | toJson }}
    body_format_override:
      content_type: application/json
      json_format:
        error: {message: "No engine can take this request now.", type: server_error, param: null, code: no_engine}
  - filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 404, runtime_key: front.not_found}}}}
    body_format_override:
      content_type: application/json
      json_format:
        error: {message: "There is no such route.", type: invalid_request_error, param: null, code: not_found}
  - filter: {status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: front.failed}}}}
    body_format_override:
      content_type: application/json
      json_format:
        error: {message: "The engine did not answer.", type: server_error, param: null, code: engine_failed}
body_format:
  content_type: application/json
  json_format:
    error: {message: "%LOCAL_REPLY_BODY%", type: invalid_request_error, param: null, code: refused_by_front}
{{- end }}

{{- define "loraplane.front.metricsListener" -}}
{{- $envoy := .Values.front.envoy -}}
name: metrics
address: {socket_address: {address: {{ default .Values.bindAddress $envoy.bindAddress | quote }}, port_value: {{ $envoy.metricsPort | int64 }}}}
# A front whose tenants have taken every connection is busy, not ill: its probes must be answered.
ignore_global_conn_limit: true
filter_chains:
  - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: metrics
          normalize_path: true
          route_config:
            name: metrics
            virtual_hosts:
              - name: metrics
                domains: ["*"]
                # Two pages of the admin interface and no more: the rest of it can stop Envoy.
                routes:
                  - match: {path: /metrics, headers: [{name: ":method", string_match: {exact: GET}}]}
                    route: {cluster: admin, prefix_rewrite: /stats/prometheus}
                  - match: {path: /ready, headers: [{name: ":method", string_match: {exact: GET}}]}
                    route: {cluster: admin}
          http_filters:
            - name: envoy.filters.http.router
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
{{- end }}

{{- define "loraplane.front.engineCluster" -}}
{{- $envoy := .Values.front.envoy -}}
name: engines
connect_timeout: {{ $envoy.timeouts.connectSeconds | int64 }}s
{{- if $envoy.endpoints }}
type: STATIC
{{- else }}
cluster_type:
  name: envoy.cluster.dns
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
    dns_refresh_rate: {{ $envoy.dns.refreshSeconds | int64 }}s
    dns_failure_refresh_rate: {base_interval: {{ $envoy.dns.refreshSeconds | int64 }}s, max_interval: {{ $envoy.dns.refreshSeconds | int64 }}s}
    dns_lookup_family: V4_PREFERRED
    {{- with $envoy.dns.servers }}
    typed_dns_resolver_config:
      name: envoy.network.dns_resolver.cares
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
        resolvers:
          {{- range . }}
          - socket_address: {address: {{ .address | quote }}, port_value: {{ .port | int64 }}}
          {{- end }}
    {{- end }}
{{- end }}
lb_policy: MAGLEV
# An address that DNS does not name any more may already be somebody else's, and answer as healthy.
# Answers under way go on.
ignore_health_on_host_removal: true
common_lb_config:
  # Never to an engine that is not ready, however few are left.
  healthy_panic_threshold: {value: 0}
  # Each change at once: the default gathers those of a second, and two engines may leave in one.
  update_merge_window: 0s
  {{- with $envoy.hashing.balanceFactor }}
  # In percent of the mean of requests in flight; above it the tenant's next engine is taken.
  consistent_hashing_lb_config: {hash_balance_factor: {{ . | int64 }}}
  {{- end }}
health_checks:
  - timeout: {{ $envoy.healthCheck.timeoutSeconds | int64 }}s
    interval: {{ $envoy.healthCheck.intervalSeconds | int64 }}s
    # Unless told, Envoy asks once a minute where nobody sends requests.
    no_traffic_interval: {{ $envoy.healthCheck.intervalSeconds | int64 }}s
    # An answer that is not 200 counts at once, whatever this says; silence may be a busy engine.
    unhealthy_threshold: {{ $envoy.healthCheck.unansweredThreshold | int64 }}
    healthy_threshold: 1
    always_log_health_check_failures: false
    http_health_check: {path: /ready}
outlier_detection:
  # What health checks are too slow for: connections that fail. Errors that an engine answers are not
  # counted, as they may be one tenant's own (a version out of service there is 503), and would take
  # the engine from all tenants.
  split_external_local_origin_errors: true
  consecutive_local_origin_failure: {{ $envoy.outlier.consecutiveFailures | int64 }}
  enforcing_consecutive_local_origin_failure: 100
  enforcing_local_origin_success_rate: 0
  enforcing_consecutive_5xx: 0
  enforcing_consecutive_gateway_failure: 0
  enforcing_success_rate: 0
  interval: 2s
  base_ejection_time: {{ $envoy.outlier.ejectionSeconds | int64 }}s
  max_ejection_percent: {{ $envoy.outlier.maxEjectionPercent | int64 }}
circuit_breakers:
  # Engines queue and refuse by their own limits; the front's defaults (1024) would come first.
  thresholds:
    - max_connections: 1000000
      max_pending_requests: 1000000
      max_requests: 1000000
      retry_budget:
        budget_percent: {value: 20}
        min_retry_concurrency: 16
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    # Under the 5 s after which an engine closes an idle connection: a request sent into that moment
    # would be lost.
    common_http_protocol_options: {idle_timeout: 3s}
    explicit_http_config: {http_protocol_options: {}}
load_assignment:
  cluster_name: engines
  endpoints:
    - lb_endpoints:
        {{- range $envoy.endpoints }}
        {{- include "loraplane.front.endpoint" . | nindent 8 }}
        {{- else }}
        {{- $engine := printf "%s-engine" (include "loraplane.fullname" .) }}
        {{- range until (int (include "loraplane.front.maxEngines" .)) }}
        {{- $name := printf "%s-%d" $engine . }}
        {{- $address := printf "%s.%s.%s.svc.%s." $name $engine $.Release.Namespace $envoy.dns.clusterDomain }}
        {{- include "loraplane.front.endpoint" (dict "name" $name "address" $address "port" 8500) | nindent 8 }}
        {{- end }}
        {{- end }}
{{- end }}

{{- define "loraplane.front.endpoint" -}}
# The hash goes by the engine's name, not its address: a pod that comes back with another address
# gets its tenants back, whose adapters its disk still holds.
- metadata: {filter_metadata: {envoy.lb: {hash_key: {{ .name | quote }}}}}
  endpoint:
    hostname: {{ .name | quote }}
    address: {socket_address: {address: {{ .address | quote }}, port_value: {{ .port | int64 }}}}
{{- end }}
