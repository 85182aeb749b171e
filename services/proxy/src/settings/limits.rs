//! The settings that bound what clients and backends can make the proxy hold or do.

use chassis::{settings::Mistakes, units};

/// What clients may do, by their number and by each; and what backends may say.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of all clients.
    pub connections: u32,
    /// Connections from one address; 0 is any number.
    pub connections_per_client: u32,
    /// Requests under way at once.
    pub requests: u32,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Fields of a request's head.
    pub headers: usize,
    /// Bytes of the head of a backend's answer, and of the fields after its body.
    pub response_header_bytes: usize,
    /// Fields of either.
    pub response_headers: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// Bytes a second of a request's body before the backend has answered; 0 is any rate.
    pub upload_rate: u32,
    /// Bytes a second of a response while its client has something waiting for it; 0 is any rate.
    pub download_rate: u32,
    /// Bytes of responses that wait for clients, of all of them together.
    pub buffered_bytes: usize,
}

/// What a client may do on a connection of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    /// Requests at once.
    pub streams: u32,
    /// Streams that it resets within ten seconds, if they are more than half of those it begins; twenty
    /// times as many in any case.
    pub resets: u32,
    /// Frames within ten seconds that belong to no request.
    pub control_frames: u32,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct LimitsRaw {
    /// Connections of clients at once; more are closed as they come
    #[arg(long, value_name = "N", default_value = "20000")]
    proxy_connections_max: String,
    /// Connections from one client address (IPv6: one /64 network) at once, trusted proxies apart; 0
    /// is any number, as many clients may share an address
    #[arg(long, value_name = "N", default_value = "0")]
    proxy_connections_per_client_max: String,
    /// Requests under way at once, each worker an equal part; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000")]
    proxy_requests_max: String,
    /// Size of a request's head; a larger one is answered 431
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    proxy_header_bytes_max: String,
    /// Fields of a request's head; more are answered 431
    #[arg(long, value_name = "N", default_value = "100")]
    proxy_headers_max: String,
    /// Size of the head of a backend's answer, of which more is answered 502, and of the fields after
    /// its body, of which more cuts it
    // As much as Envoy takes; all others take less.
    #[arg(long, value_name = "SIZE", default_value = "60KiB")]
    proxy_response_header_bytes_max: String,
    /// Fields of the head of a backend's answer, of which more are answered 502, and of those after its
    /// body, of which more cut it
    // As many as other proxies take.
    #[arg(long, value_name = "N", default_value = "100")]
    proxy_response_headers_max: String,
    /// Size of a request's target; a longer one is answered 414
    #[arg(long, value_name = "SIZE", default_value = "8KiB")]
    proxy_target_bytes_max: String,
    /// Bytes a second that a client sends of its request's body at least, before the backend has
    /// answered (a slower one is answered 408) and once that answer has ended; in between a slower one
    /// does not prolong PROXY_READ_TIMEOUT; 0 is any rate
    #[arg(long, value_name = "N", default_value = "100")]
    proxy_upload_rate_min: String,
    /// Bytes a second that a client takes of a response at least while something of it waits for the
    /// client (a slower one is cut off, also by a pause once it goes on: with PROXY_WRITE_TIMEOUT ten
    /// times as long take a tenth); 0 is any rate
    // As of the other direction: no network that anybody uses is so slow. And nobody is hit who only
    // pauses: who makes room within the usual PROXY_WRITE_TIMEOUT of 60s makes it for a third of what
    // the kernel holds, or for a part of 16KiB, which both are more than 6000 bytes.
    #[arg(long, value_name = "N", default_value = "100")]
    proxy_download_rate_min: String,
    /// What may wait in memory for clients that do not take their responses, and of uploads for backends
    /// that do not take those, each worker an equal part; the more does, the less is read of a response
    /// or an upload at once, down to 8KiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    proxy_buffered_bytes_max: String,
    /// Requests that a client may have under way at once on a connection of HTTP/2
    #[arg(long, value_name = "N", default_value = "100")]
    proxy_http2_streams_max: String,
    /// Requests that a client may cancel on a connection of HTTP/2 within 10s, unless it lets as many
    /// through; 20 times as many in any case
    #[arg(long, value_name = "N", default_value = "200")]
    proxy_http2_resets_max: String,
    /// Frames of HTTP/2 within 10s that belong to no request, such as PING and SETTINGS
    #[arg(long, value_name = "N", default_value = "1000")]
    proxy_http2_control_frames_max: String,
}

/// A head is read into a buffer of at least so much.
const HEADER_BYTES_LEAST: usize = 8 * 1024;

/// More is no head any more.
const HEADER_BYTES_MOST: usize = 16 * 1024 * 1024;

/// With less, all reads would be small from the start.
const BUFFERED_BYTES_LEAST: usize = 1024 * 1024;

impl LimitsRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Limits> {
        let mut number = |name, text: &str, least| {
            mistakes.parse(name, text, |text| units::whole(text, least, 10_000_000))
        };
        let connections = number("proxy_connections_max", &self.proxy_connections_max, 1);
        let connections_per_client =
            number("proxy_connections_per_client_max", &self.proxy_connections_per_client_max, 0);
        let requests = number("proxy_requests_max", &self.proxy_requests_max, 1);
        let upload_rate = number("proxy_upload_rate_min", &self.proxy_upload_rate_min, 0);
        let download_rate = number("proxy_download_rate_min", &self.proxy_download_rate_min, 0);
        let mut fields =
            |name, text: &str| mistakes.parse(name, text, |text| units::whole(text, 1, 10_000));
        let headers = fields("proxy_headers_max", &self.proxy_headers_max);
        let response_headers =
            fields("proxy_response_headers_max", &self.proxy_response_headers_max);
        let mut size = |name, text: &str, least| {
            mistakes.parse(name, text, |text| {
                let size = units::size(text)?;
                let fits = (least..=HEADER_BYTES_MOST).contains(&size);
                fits.then_some(size).ok_or_else(|| format!("a size of {least}B to 16MiB"))
            })
        };
        let header_bytes =
            size("proxy_header_bytes_max", &self.proxy_header_bytes_max, HEADER_BYTES_LEAST);
        let name = "proxy_response_header_bytes_max";
        let response_header_bytes =
            size(name, &self.proxy_response_header_bytes_max, HEADER_BYTES_LEAST);
        let target_bytes = size("proxy_target_bytes_max", &self.proxy_target_bytes_max, 1);
        let name = "proxy_buffered_bytes_max";
        let buffered_bytes = mistakes.parse(name, &self.proxy_buffered_bytes_max, |text| {
            let size = units::size(text)?;
            let fits = size >= BUFFERED_BYTES_LEAST;
            fits.then_some(size).ok_or_else(|| "a size of at least 1MiB".to_owned())
        });
        Some(Limits {
            connections: connections?,
            connections_per_client: connections_per_client?,
            requests: requests?,
            header_bytes: header_bytes?,
            headers: headers? as usize,
            response_header_bytes: response_header_bytes?,
            response_headers: response_headers? as usize,
            target_bytes: target_bytes?,
            upload_rate: upload_rate?,
            download_rate: download_rate?,
            buffered_bytes: buffered_bytes?,
        })
    }

    pub(super) fn parse_http2(&self, mistakes: &mut Mistakes) -> Option<Http2> {
        let mut read =
            |name, text: &str| mistakes.parse(name, text, |text| units::whole(text, 1, 1_000_000));
        let streams = read("proxy_http2_streams_max", &self.proxy_http2_streams_max);
        let resets = read("proxy_http2_resets_max", &self.proxy_http2_resets_max);
        let frames = read("proxy_http2_control_frames_max", &self.proxy_http2_control_frames_max);
        Some(Http2 { streams: streams?, resets: resets?, control_frames: frames? })
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, tests::mistakes};

    #[test]
    fn the_bounds_on_fields_are_set_apart_for_requests_and_for_answers() {
        let fields = |variables: &[(&str, &str)]| {
            let limits = Settings::from_variables(variables).limits;
            let of_requests = (limits.header_bytes, limits.headers);
            (of_requests, (limits.response_header_bytes, limits.response_headers))
        };
        let (of_requests, of_answers) = ((64 * 1024, 100), (60 * 1024, 100));
        assert_eq!(fields(&[]), (of_requests, of_answers));
        let (bytes, count) = ("PROXY_RESPONSE_HEADER_BYTES_MAX", "PROXY_RESPONSE_HEADERS_MAX");
        let others = fields(&[(bytes, "100KiB"), (count, "200")]);
        assert_eq!(others, (of_requests, (100 * 1024, 200)));
        let found = mistakes(&[(bytes, "1KiB"), (count, "0")]);
        let names: Vec<&str> = found.iter().filter_map(|text| text.split('=').next()).collect();
        assert_eq!(names, [count, bytes]);
    }
}
