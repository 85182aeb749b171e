//! What a backend may be sent: requests of HTTP/1.1, one after the other, that can be read in one way
//! only (RFC 9112 §3, §6).
//!
//! A reader of its own, stricter than any server's: one that it shared with the proxy would share its
//! mistakes.

/// Fields of one connection, which a proxy must not pass on from HTTP/2 (RFC 9113 §8.2.2).
const OF_ONE_CONNECTION: [&str; 4] = ["keep-alive", "proxy-connection", "upgrade", "connection"];

/// The length of the message that the bytes begin with, if all of it is there.
///
/// # Errors
/// How it is not well-formed.
pub(super) fn message(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return if bytes.len() < 256 * 1024 { Ok(None) } else { Err("a head without end".into()) };
    };
    let mut lines = lines(&bytes[..end]);
    let line = lines.next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let is_sound = matches!(parts[..], [method, target, b"HTTP/1.1"]
        if !method.is_empty() && (target == b"*" || target.starts_with(b"/")));
    if !is_sound || line.iter().any(|byte| byte.is_ascii_control()) {
        return Err(format!("the request line {:?}", String::from_utf8_lossy(line)));
    }
    let (mut hosts, mut length, mut is_chunked) = (0, None, false);
    for line in lines {
        let odd = || format!("the field {:?}", String::from_utf8_lossy(line));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(odd)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_text) {
            return Err(odd());
        }
        match &*String::from_utf8_lossy(name).to_ascii_lowercase() {
            "host" => hosts += 1,
            "content-length" if length.is_none() && value.iter().all(u8::is_ascii_digit) => {
                let number = String::from_utf8_lossy(value).parse::<usize>();
                length = Some(number.map_err(|_| odd())?);
            }
            "transfer-encoding" if value == b"chunked" && !is_chunked => is_chunked = true,
            "content-length" | "transfer-encoding" => return Err(odd()),
            "connection" if value.eq_ignore_ascii_case(b"te") => {}
            name if OF_ONE_CONNECTION.contains(&name) => return Err(odd()),
            _ => {}
        }
    }
    if hosts != 1 || (is_chunked && length.is_some()) {
        return Err(format!("{hosts} hosts, length {length:?}, chunked {is_chunked}"));
    }
    let body = &bytes[end + 4..];
    let of_body = if is_chunked { chunked(body)? } else { Some(length.unwrap_or(0)) };
    Ok(of_body.filter(|length| *length <= body.len()).map(|length| end + 4 + length))
}

/// Lines that end with CRLF. What else ends lines for some is left in them.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let head = rest?;
        let end = head.windows(2).position(|end| end == b"\r\n");
        rest = end.map(|end| &head[end + 2..]);
        Some(&head[..end.unwrap_or(head.len())])
    })
}

/// The length of a chunked body, if all of it is there.
fn chunked(body: &[u8]) -> Result<Option<usize>, String> {
    let line = |from: usize| {
        let rest = body.get(from..)?;
        rest.windows(2).position(|end| end == b"\r\n").map(|length| &rest[..length])
    };
    let mut at = 0;
    loop {
        let Some(size) = line(at) else { return Ok(None) };
        let text = String::from_utf8_lossy(size);
        let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
        let bytes = usize::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        let bytes = bytes.ok_or_else(|| format!("a chunk of {text:?}"))?;
        at += size.len() + 2;
        if bytes == 0 {
            // Fields, and an empty line.
            loop {
                let Some(field) = line(at) else { return Ok(None) };
                at += field.len() + 2;
                if field.is_empty() {
                    return Ok(Some(at));
                }
            }
        }
        at += bytes;
        match body.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(other) => return Err(format!("{other:?} after a chunk")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", Some(27)),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET", Some(50)),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab", None),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nG",
                Some(69),
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
                None,
            ),
            ("GET / HTTP/1.1\r\nhost", None),
        ] {
            assert_eq!(message(bytes.as_bytes()), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_none() {
        for bytes in [
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\ny: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\rhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nkeep-alive: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        ] {
            assert!(message(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
