//! As much of HTTP/1.1 as the two ends need of what they send each other through a proxy.

use std::io;

/// More than any proxy adds.
const FIELDS_MAX: usize = 32;

/// A request's head.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) head_length: usize,
    pub(crate) body_length: u64,
    pub(crate) asks_to_close: bool,
}

/// Reads a request's head; `None` if it is not complete.
pub(crate) fn request(bytes: &[u8]) -> io::Result<Option<Request<'_>>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head_length) = request.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let body_length = length(request.headers)?;
    let asks_to_close = request.headers.iter().any(|field| {
        field.name.eq_ignore_ascii_case("connection") && field.value.eq_ignore_ascii_case(b"close")
    });
    let path = request.path.unwrap_or_default();
    Ok(Some(Request { path, head_length, body_length, asks_to_close }))
}

/// A response's head.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head_length: usize,
    pub(crate) body_length: u64,
}

/// Reads a response's head; `None` if it is not complete.
pub(crate) fn response(bytes: &[u8]) -> io::Result<Option<Response>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_length) = response.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    Ok(Some(Response { status, head_length, body_length: length(response.headers)? }))
}

fn invalid(error: httparse::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The body's length. No proxy changes how the bodies of the benchmark are framed.
fn length(fields: &[httparse::Header<'_>]) -> io::Result<u64> {
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let length = str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            return length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
        }
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a body without a length"));
        }
    }
    Ok(0)
}
