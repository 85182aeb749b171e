//! The settings as they are given, in the order and with the words of `--help`. What belongs to one part
//! of the proxy alone is beside what it becomes.

use super::{degraded, discovery, ejection, forwarding, limits, policy, probe, queue, sticky};

/// The raw text. Field names are the variables' names in lower case.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub struct Raw {
    /// Port for traffic; every path on it goes to the backends
    #[arg(long, value_name = "PORT", default_value = "8080")]
    pub(super) proxy_port: String,
    /// Address to listen on for traffic; :: is every address, IPv4 too
    #[arg(long, value_name = "IP", default_value = "::")]
    pub(super) proxy_bind: String,
    /// Port for the admin API, /healthz, /readyz and /metrics
    #[arg(long, value_name = "PORT", default_value = "9901")]
    pub(super) proxy_admin_port: String,
    /// Address to listen on for the admin API
    #[arg(long, value_name = "IP", default_value = "::")]
    pub(super) proxy_admin_bind: String,
    /// Name of this proxy on the page [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(super) proxy_name: Option<String>,
    /// Worker threads; 0 is one per CPU that this process may use
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) proxy_workers: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) discovery: discovery::DiscoveryRaw,
    /// What to speak to backends: http1, or h2c (HTTP/2 with prior knowledge), as gRPC needs
    #[arg(long, value_name = "PROTOCOL", default_value = "http1")]
    pub(super) proxy_backend_protocol: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) policy: policy::PolicyRaw,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) sticky: sticky::StickyRaw,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) probe: probe::ProbeRaw,
    /// How long a backend that comes up climbs to its full share, from a tenth of it; 0s is at once
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub(super) proxy_slow_start: String,
    /// Share of a tier's weight that must be able to serve: below it, backups of the next tier join;
    /// 0% leaves them out while anybody above can serve
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    pub(super) proxy_tier_min: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) ejecting: ejection::EjectionRaw,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) degrading: degraded::DegradedRaw,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) limits: limits::LimitsRaw,
    /// Time limit for connecting to a backend; then another one is tried
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(super) proxy_connect_timeout: String,
    /// Time limit from the last byte of a request to the response's head
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(super) proxy_response_timeout: String,
    /// Time limit for one attempt's response head, after which a request that may be sent twice is
    /// tried on another backend; PROXY_RESPONSE_TIMEOUT then is for all attempts. 0s is none
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub(super) proxy_try_timeout: String,
    /// Time limit between two reads of a response's body
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(super) proxy_read_timeout: String,
    /// Time limit for a client to send a whole request head
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(super) proxy_header_timeout: String,
    /// Time limit for a client to make room for more of its response; to raise it for clients that pause,
    /// lower PROXY_DOWNLOAD_RATE_MIN with it
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(super) proxy_write_timeout: String,
    /// How long an upgraded connection such as a WebSocket may be silent both ways
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(super) proxy_tunnel_timeout: String,
    /// How long a client's connection may be idle between two requests
    #[arg(long, value_name = "DURATION", default_value = "75s")]
    pub(super) proxy_idle_timeout: String,
    /// After how long an idle client's connection gives its buffers back (some 14 KiB)
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(super) proxy_rest_after: String,
    /// How long a backend's connection may be idle at most; less where the backend is known to close
    /// sooner
    #[arg(long, value_name = "DURATION", default_value = "4s")]
    pub(super) proxy_upstream_idle_timeout: String,
    /// Idle connections kept for each backend, per worker
    #[arg(long, value_name = "N", default_value = "512")]
    pub(super) proxy_upstream_idle_max: String,
    /// Requests in flight at each backend, at most; 0 is no limit. Over this limit, requests wait
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) proxy_max_in_flight: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) queue: queue::QueueRaw,
    /// Retries of a request that had been sent and got no answer (idempotent, without body)
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) proxy_retries: String,
    /// Such retries of all requests together, as a share of the requests
    #[arg(long, value_name = "SHARE", default_value = "20%")]
    pub(super) proxy_retry_budget: String,
    /// A retry on the same backend waits for a random time of up to this, a second one on any of up
    /// to twice this and so on, up to ten times this; 0s is no wait
    #[arg(long, value_name = "DURATION", default_value = "25ms")]
    pub(super) proxy_retry_backoff: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) forwarding: forwarding::ForwardingRaw,
    /// File in which operators' changes outlive a restart of the proxy; without one they do not
    #[arg(long, value_name = "PATH")]
    pub(super) proxy_state_file: Option<String>,
    /// Share of the successful requests of which it is recorded why they went where they did;
    /// failed and retried ones always are
    #[arg(long, value_name = "SHARE", default_value = "1%")]
    pub(super) proxy_decisions: String,
    /// Backends that must stay in service when an operator takes one out, as a number or a share
    /// such as 50%; what would leave fewer is refused unless forced
    #[arg(long, value_name = "FLOOR", default_value = "1")]
    pub(super) proxy_floor: String,
    /// At a stop, accept requests until none has come for this long
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub(super) proxy_stop_quiet: String,
    /// At a stop, accept requests for at most this long
    #[arg(long, value_name = "DURATION", default_value = "25s")]
    pub(super) proxy_stop_max: String,
    /// Token that changes over the admin API need; without one only this machine may change
    #[arg(long, value_name = "TOKEN")]
    pub(super) proxy_admin_token: Option<String>,
    /// File with the admin token
    #[arg(long, value_name = "PATH")]
    pub(super) proxy_admin_token_file: Option<String>,
    /// Make the admin token file with a random token if it does not exist
    #[arg(long, value_name = "BOOL", default_value = "false")]
    pub(super) proxy_admin_token_create: String,
    /// Token that reading over the admin API needs; without one everybody may read
    #[arg(long, value_name = "TOKEN")]
    pub(super) proxy_admin_read_token: Option<String>,
    /// File with the token for reading
    #[arg(long, value_name = "PATH")]
    pub(super) proxy_admin_read_token_file: Option<String>,
    /// File to which it is appended who changed what, and who was refused; it and the one before
    /// (.1) hold 4 MiB each. Without one the last thousand entries are kept in memory
    #[arg(long, value_name = "PATH")]
    pub(super) proxy_audit_log: Option<String>,
    /// What to log: error, warn, info, debug, trace, or directives such as info,hyper=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(super) proxy_log: String,
    /// Shape of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) proxy_log_format: String,
}
