//! The head of a request, as a client of HTTP/1 sends it (RFC 9112 §3, §5, §6.3).
//!
//! Strict: who repairs a message reads another one than somebody before it may have read (§11.2). So
//! nothing is repaired here that general readers do: a bare LF ends no line, a length beside a coding
//! or a second length is one too many even if it says the same, and a target has no fragment.
//!
//! The end of a head is looked for before it is read, line by line, so that a head that comes in many
//! pieces is read once, and each line is known to end as it must.

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};
use httparse::{ParserConfig, Status};

use crate::{
    error::Reason,
    headers::{is_continue, members, spare},
    http1::{Framing, Named, room},
    limits::{FieldLimits, Limit, Refusal},
    numbers,
    settings::Limits,
};

/// Fields that a request gets on its way.
const FIELDS_ADDED: usize = 6;

/// The longest target that can be kept.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// A request without its body.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Where its body ends; after nothing if it has none.
    pub(crate) framing: Framing,
    pub(crate) said: Said,
}

/// What a head says of its connection and of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) version: Version,
    /// Another request may follow (RFC 9112 §9.3).
    pub(crate) keeps_connection: bool,
    /// The body waits until it is asked for (RFC 9110 §10.1.1).
    pub(crate) expects_continue: bool,
    /// It asks for another protocol (RFC 9110 §7.8), of which h2c is none (RFC 9113 §3.1).
    pub(crate) may_switch: bool,
    /// Fields after the answer's body are welcome (RFC 9110 §10.1.4).
    pub(crate) takes_trailers: bool,
}

impl Said {
    /// What is heard of a head that is not taken.
    pub(crate) const NOTHING: Self = Self {
        version: Version::HTTP_11,
        keeps_connection: false,
        expects_continue: false,
        may_switch: false,
        takes_trailers: false,
    };
}

/// What is not valid.
const INVALID: Refusal = Refusal { reason: Reason::BadRequest, limit: None };

const TOO_LARGE: Refusal = Refusal::beyond(Limit::HeaderBytes);

const TOO_MANY: Refusal = Refusal::beyond(Limit::Headers);

const TOO_LONG: Refusal =
    Refusal { reason: Reason::TargetTooLong, limit: Some(Limit::TargetBytes) };

/// How far the end of a head has been looked for.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Where the line begins that has not ended yet.
    line: usize,
    /// Up to where there is no end of it.
    seen: usize,
}

impl Search {
    /// How long the head is, once it is all there.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.seen..]) {
            let lf = self.seen + at;
            if !bytes[..lf].ends_with(b"\r") {
                return Err(INVALID);
            }
            let is_empty = lf == self.line + 1;
            (self.line, self.seen) = (lf + 1, lf + 1);
            if is_empty {
                return Ok(Some(lf + 1));
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// Takes a head out of what was read; `None` if it has not come to its end.
///
/// # Errors
/// It is none, leaves open where its body ends, or is more than may be. Nothing that comes after it
/// may be read.
pub(crate) fn read_head(
    read: &mut BytesMut,
    search: &mut Search,
    limits: &Limits,
) -> Result<Option<RequestHead>, Refusal> {
    let length = loop {
        let is_first_look = search.seen == 0;
        match search.end(read)? {
            Some(2) => {
                // An empty line before the request line (RFC 9112 §2.2).
                read.advance(2);
                *search = Search::default();
            }
            Some(length) => break length,
            None if read.len() >= limits.header_bytes => return Err(excess(read, limits)),
            None => {
                if is_first_look && !read.is_empty() {
                    // Who speaks another protocol, such as TLS, need not wait for a line's end.
                    with_parsed(read, limits, |_, _| Ok(()))?;
                }
                return Ok(None);
            }
        }
    };
    *search = Search::default();
    if length > limits.header_bytes {
        return Err(excess(read, limits));
    }
    let bytes = read.split_to(length).freeze();
    with_parsed(&bytes, limits, |parsed, is_whole| match is_whole {
        true => request_head(&bytes, parsed, limits).map(Some),
        false => Err(INVALID),
    })
}

/// What there is too much of in a head that is more than may be.
fn excess(read: &[u8], limits: &Limits) -> Refusal {
    let is_one_line = memchr::memchr(b'\n', read).is_none_or(|lf| lf >= limits.header_bytes);
    if is_one_line { TOO_LONG } else { TOO_LARGE }
}

/// Reads the lines of a head, and tells whether the head's end is that of the bytes.
fn with_parsed<T>(
    bytes: &[u8],
    limits: &Limits,
    then: impl FnOnce(&httparse::Request<'_, '_>, bool) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let (mut few, mut many) = (room::few(), Vec::new());
    let parsed = room::parse(bytes, limits.headers, (&mut few, &mut many), |fields| {
        let mut request = httparse::Request::new(&mut []);
        let parser = ParserConfig::default();
        let status = parser.parse_request_with_uninit_headers(&mut request, bytes, fields)?;
        Ok((request, status))
    });
    match parsed {
        Ok((request, Status::Complete(length))) => then(&request, length == bytes.len()),
        Ok((request, Status::Partial)) => then(&request, false),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_MANY),
        Err(_) => Err(INVALID),
    }
}

/// Makes a head of its lines. The values share its bytes.
fn request_head(
    bytes: &Bytes,
    parsed: &httparse::Request<'_, '_>,
    limits: &Limits,
) -> Result<RequestHead, Refusal> {
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    if !is_plain(target.as_bytes()) {
        return Err(INVALID);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| INVALID)?;
    let uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).map_err(|_| INVALID)?;
    let uri = if method == Method::OPTIONS { with_asterisk(uri, target) } else { uri };
    let is_http11 = parsed.version == Some(1);
    let mut hearing = Hearing::new(is_http11, limits.of_request());
    let mut headers = spare::take(parsed.headers.len() + FIELDS_ADDED);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| INVALID)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let value = value.map_err(|_| INVALID)?;
        hearing.hear(&name, &value)?;
        headers.append(name, value);
    }
    let (framing, mut said) = hearing.end();
    // It is refused, and what its client sends behind it may be for whom it wanted to talk to.
    said.keeps_connection &= method != Method::CONNECT;
    Ok(RequestHead { method, uri, headers, framing, said })
}

/// An absolute target of OPTIONS without a path means the server as a whole (RFC 9112 §3.2.4); the
/// library takes it for one with the path `/`.
fn with_asterisk(uri: Uri, target: &str) -> Uri {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return uri };
    if target.len() > scheme.len() + "://".len() + authority.as_str().len() {
        return uri;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Whether a target has neither a fragment nor anything beyond ASCII, which nobody reads alike.
/// Without a branch per byte, so that it is vectorised.
fn is_plain(target: &[u8]) -> bool {
    !target.iter().fold(false, |is_odd, byte| is_odd | (*byte >= 0x7F) | (*byte == b'#'))
}

/// What the fields have said so far.
struct Hearing {
    said: Said,
    closes_connection: bool,
    /// `Connection` has the member `upgrade`.
    is_upgrade: bool,
    named: Named,
    framing: Option<Framing>,
    limits: FieldLimits,
}

impl Hearing {
    fn new(is_http11: bool, limits: FieldLimits) -> Self {
        let version = if is_http11 { Version::HTTP_11 } else { Version::HTTP_10 };
        let said = Said { version, keeps_connection: is_http11, ..Said::NOTHING };
        let (closes_connection, is_upgrade, named) = (false, false, Named::default());
        Self { said, closes_connection, is_upgrade, named, framing: None, limits }
    }

    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        let is_http11 = self.said.version == Version::HTTP_11;
        if *name == CONTENT_LENGTH {
            let length = numbers::length(value.as_bytes()).ok_or(INVALID)?;
            return self.set_framing(Framing::Length(length));
        } else if *name == TRANSFER_ENCODING {
            // The only coding that we can pass on (RFC 9112 §6.1).
            let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            let framing = (is_chunked && is_http11).then(|| Framing::chunked(self.limits));
            return self.set_framing(framing.ok_or(INVALID)?);
        } else if *name == CONNECTION {
            for token in members(value) {
                self.closes_connection |= token.eq_ignore_ascii_case(b"close");
                self.said.keeps_connection |= token.eq_ignore_ascii_case(b"keep-alive");
                self.is_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                self.named.hear(token);
            }
        } else if *name == EXPECT {
            self.said.expects_continue |= is_http11 && members(value).any(is_continue);
        } else if *name == UPGRADE {
            let is_h2c = |token: &[u8]| token.eq_ignore_ascii_case(b"h2c");
            self.said.may_switch |= is_http11 && !members(value).any(is_h2c);
        } else if *name == TE {
            let is_trailers = |token: &[u8]| token.eq_ignore_ascii_case(b"trailers");
            self.said.takes_trailers |= members(value).any(is_trailers);
        }
        Ok(())
    }

    /// A second framing is one too many, even if it says the same (RFC 9112 §6.3).
    fn set_framing(&mut self, framing: Framing) -> Result<(), Refusal> {
        match self.framing.replace(framing) {
            None => Ok(()),
            Some(_) => Err(INVALID),
        }
    }

    fn end(mut self) -> (Framing, Said) {
        self.said.keeps_connection &= !self.closes_connection;
        self.said.may_switch &= self.is_upgrade;
        (self.framing.unwrap_or(Framing::Length(0)).without(self.named), self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 1,
        connections_per_client: 0,
        requests: 1,
        header_bytes: 8 * 1024,
        headers: 10,
        response_header_bytes: 8 * 1024,
        response_headers: 100,
        target_bytes: 1024,
        upload_rate: 0,
        download_rate: 0,
        buffered_bytes: usize::MAX,
    };

    /// The heads of requests without bodies that arrive in pieces of a size, and what is left.
    fn read_in_pieces(bytes: &[u8], size: usize) -> Result<(Vec<RequestHead>, usize), Refusal> {
        let (mut read, mut search, mut heads) = (BytesMut::new(), Search::default(), Vec::new());
        for piece in bytes.chunks(size) {
            read.extend_from_slice(piece);
            while let Some(head) = read_head(&mut read, &mut search, &LIMITS)? {
                heads.push(head);
            }
        }
        Ok((heads, read.len()))
    }

    /// The same, however they arrive.
    fn read_all(bytes: &[u8]) -> Result<(Vec<RequestHead>, usize), Refusal> {
        let told = |result: &Result<(Vec<RequestHead>, usize), Refusal>| {
            result.as_ref().map(|(heads, left)| (heads.len(), *left)).map_err(|refusal| *refusal)
        };
        let whole = read_in_pieces(bytes, bytes.len());
        for size in 1..bytes.len() {
            let pieces = read_in_pieces(bytes, size);
            assert_eq!(told(&pieces), told(&whole), "{size} at a time: {bytes:?}");
        }
        whole
    }

    fn read_one(bytes: &[u8]) -> Result<RequestHead, Refusal> {
        read_all(bytes).map(|(mut heads, _)| heads.remove(0))
    }

    #[test]
    fn a_head_is_taken_once_it_is_whole_and_what_follows_stays() {
        let (heads, left) = read_all(
            b"\r\n\r\nGET /a?b HTTP/1.1\r\nHost: a\r\nX: 1\r\nx:  2 \r\n\r\n\
              \r\nget * HTTP/1.0\r\n\r\nGET / HT",
        )
        .unwrap();
        assert_eq!(left, 8);
        let [one, two] = &heads[..] else { panic!("{heads:?}") };
        assert_eq!((&one.method, &one.uri), (&Method::GET, &Uri::from_static("/a?b")));
        assert_eq!(one.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((one.said.version, two.said.version), (Version::HTTP_11, Version::HTTP_10));
        assert_eq!((two.method.as_str(), two.headers.len()), ("get", 0));
    }

    #[test]
    fn a_head_that_others_would_repair_is_not_valid() {
        let heads: [&[u8]; 20] = [
            b"\nGET / HTTP/1.1\r\n\r\n",
            b"\rGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\n\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET /#a HTTP/1.1\r\n\r\n",
            b"GET /\xC3\xA9 HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding:\r\n\r\n",
            b"GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length:\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1234567890123456789\r\n\r\n",
        ];
        for head in heads {
            assert_eq!(read_all(head).unwrap_err(), INVALID, "{head:?}");
        }
    }

    /// RFC 9110 §7.8, RFC 9113 §3.1.
    #[test]
    fn another_protocol_is_asked_for_by_two_fields_and_is_not_h2c() {
        for (fields, expected) in [
            ("Upgrade: x\r\nConnection: keep-alive, Upgrade", true),
            ("Upgrade: x", false),
            ("Connection: upgrade", false),
            ("Upgrade: h2c\r\nConnection: upgrade", false),
        ] {
            for (version, expected) in [("1.1", expected), ("1.0", false)] {
                let head = format!("GET / HTTP/{version}\r\n{fields}\r\n\r\n");
                let said = read_one(head.as_bytes()).unwrap().said;
                assert_eq!(said.may_switch, expected, "{head}");
            }
        }
    }

    #[test]
    fn what_begins_like_nothing_that_is_http_is_refused_at_once() {
        let mut read = BytesMut::from(&b"\x16\x03\x01\x02\x00\x01"[..]);
        let refused = read_head(&mut read, &mut Search::default(), &LIMITS);
        assert_eq!(refused.unwrap_err(), INVALID);
    }

    #[test]
    fn what_is_too_much_is_told_apart() {
        let (long, many) = ("x".repeat(LIMITS.header_bytes), "X: y\r\n".repeat(LIMITS.headers + 1));
        let big = format!("GET / HTTP/1.1\r\nX: {long}");
        let cases = [
            (format!("GET /{long}"), TOO_LONG),
            (format!("GET /{long} HTTP/1.1\r\n\r\n"), TOO_LONG),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), TOO_MANY),
            (format!("{big}\r\n\r\n"), TOO_LARGE),
            (big, TOO_LARGE),
        ];
        for (head, expected) in cases {
            for size in [1, 100, head.len()] {
                let refused = read_in_pieces(head.as_bytes(), size).unwrap_err();
                assert_eq!(refused, expected, "{size}: {}", &head[..20]);
            }
        }
        let most = "X: y\r\n".repeat(LIMITS.headers);
        assert!(read_one(format!("GET / HTTP/1.1\r\n{most}\r\n").as_bytes()).is_ok());
    }

    /// RFC 9112 §6.3.
    #[test]
    fn a_body_ends_where_its_head_says() {
        let cases = [
            ("", Framing::Length(0)),
            ("Content-Length: 0\r\n", Framing::Length(0)),
            ("Content-Length: 007\r\n", Framing::Length(7)),
            ("Transfer-Encoding: Chunked\r\n", Framing::chunked(LIMITS.of_request())),
        ];
        for (fields, expected) in cases {
            let head = read_one(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
            assert_eq!(head.framing, expected, "{fields:?}");
        }
    }

    #[test]
    fn what_a_head_says_of_its_connection_is_heard() {
        let said = |version: &str, fields: &str| {
            let head = format!("GET / HTTP/{version}\r\n{fields}\r\n");
            read_one(head.as_bytes()).unwrap().said
        };
        for (version, fields, keeps) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: x, Keep-Alive\r\n", true),
        ] {
            assert_eq!(said(version, fields).keeps_connection, keeps, "{version} {fields:?}");
        }
        let fields =
            "Expect: 100-Continue\r\nConnection: upgrade\r\nUpgrade: x\r\nTE: gzip, trailers\r\n";
        let new = said("1.1", fields);
        assert!(new.expects_continue && new.may_switch && new.takes_trailers);
        let old = said("1.0", fields);
        assert!(!old.expects_continue && !old.may_switch);
    }
}
