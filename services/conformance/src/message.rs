//! Reading messages to the letter of RFC 9112, and nothing beyond it.
//!
//! It works on all bytes seen so far instead of a stream: it is called again when more have come.
//! That is slow for long messages, simple, and the rows are short.

/// The fields of a message in their order, names in lower case.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    /// The fields of the head.
    pub fields: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Fields,
}

impl Message {
    /// The values of a field, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.0 == name).map(|field| field.1.as_slice())
    }

    /// Whether it has a field.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The status of a response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    #[must_use]
    pub fn target(&self) -> String {
        self.start.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }
}

/// What some bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A whole message, and how many bytes it takes.
    Whole(Message, usize),
    /// Part of one.
    Partial,
    /// Nothing that is HTTP, and why.
    Invalid(String),
}

/// How the body of a message ends.
enum Framing {
    Length(usize),
    Chunked,
    /// Only the connection's end tells.
    Close,
}

type Parsed<T> = Result<T, Stop>;

/// Why reading does not go on.
enum Stop {
    Partial,
    Invalid(String),
}

fn invalid<T>(why: impl Into<String>) -> Parsed<T> {
    Err(Stop::Invalid(why.into()))
}

/// The method that some bytes begin with, as far as they have one.
#[must_use]
pub fn method_of(request: &[u8]) -> &str {
    let word = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).unwrap_or_default()
}

/// Reads a request.
#[must_use]
pub fn request(bytes: &[u8]) -> Reading {
    reading(read_request(bytes))
}

/// Reads a response to a request with `method`. Once the connection is `closed`, a response that
/// ends with it is whole. Interim responses (1xx but 101) are messages of their own.
#[must_use]
pub fn response(bytes: &[u8], method: &str, closed: bool) -> Reading {
    reading(read_response(bytes, method, closed))
}

fn reading(parsed: Parsed<(Message, usize)>) -> Reading {
    match parsed {
        Ok((message, length)) => Reading::Whole(message, length),
        Err(Stop::Partial) => Reading::Partial,
        Err(Stop::Invalid(why)) => Reading::Invalid(why),
    }
}

fn read_request(bytes: &[u8]) -> Parsed<(Message, usize)> {
    let (mut message, mut at) = head(bytes)?;
    let parts: Vec<&str> = message.start.split(' ').collect();
    let is_target = |target: &str| !target.is_empty() && target.bytes().all(|byte| byte > b' ');
    match parts.as_slice() {
        [method, target, "HTTP/1.1" | "HTTP/1.0"] if is_token(method) && is_target(target) => {}
        _ => return invalid(format!("request line {:?}", message.start)),
    }
    let framing = framing(&message)?.unwrap_or(Framing::Length(0));
    at += body(&bytes[at..], framing, false, &mut message)?;
    Ok((message, at))
}

fn read_response(bytes: &[u8], method: &str, closed: bool) -> Parsed<(Message, usize)> {
    let (mut message, mut at) = head(bytes)?;
    let mut parts = message.start.splitn(3, ' ');
    let version = parts.next().unwrap_or_default();
    let code = parts.next().unwrap_or_default();
    let is_code = code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit());
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !is_code || parts.next().is_none() {
        return invalid(format!("status line {:?}", message.start));
    }
    let has_no_body = method == "HEAD" || matches!(message.status(), 100..=199 | 204 | 304);
    let framing = match framing(&message)? {
        _ if has_no_body => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::Close,
    };
    at += body(&bytes[at..], framing, closed, &mut message)?;
    Ok((message, at))
}

/// The start line and the fields, and how many bytes they take.
fn head(bytes: &[u8]) -> Parsed<(Message, usize)> {
    let (start, mut at) = line(bytes)?;
    let start = String::from_utf8_lossy(start).into_owned();
    let fields = fields(bytes, &mut at)?;
    Ok((Message { start, fields, ..Message::default() }, at))
}

/// Fields up to and with the empty line.
fn fields(bytes: &[u8], at: &mut usize) -> Parsed<Fields> {
    let mut fields = Fields::new();
    loop {
        let (text, length) = line(&bytes[*at..])?;
        *at += length;
        if text.is_empty() {
            return Ok(fields);
        }
        let Some(colon) = text.iter().position(|byte| *byte == b':') else {
            return invalid(format!("a line without a colon: {:?}", String::from_utf8_lossy(text)));
        };
        let name = String::from_utf8_lossy(&text[..colon]).to_ascii_lowercase();
        let value = text[colon + 1..].trim_ascii();
        if !is_token(&name) || value.iter().any(|byte| is_control(*byte)) {
            return invalid(format!("field {:?}", String::from_utf8_lossy(text)));
        }
        fields.push((name, value.to_vec()));
    }
}

/// A line without its CRLF, and how many bytes it takes with it.
fn line(bytes: &[u8]) -> Parsed<(&[u8], usize)> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Err(Stop::Partial);
    };
    match bytes[..end].strip_suffix(b"\r") {
        Some(text) if !text.contains(&b'\r') => Ok((text, end + 1)),
        _ => invalid("a bare CR or LF"),
    }
}

/// What a text of digits means, of which zeros may be the first (RFC 9110 §8.6).
#[must_use]
pub fn number(text: &[u8]) -> Option<usize> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok()?.parse().ok().filter(|_| is_number)
}

/// What the fields say of the body. Both framings together are invalid (RFC 9112 §6.3).
fn framing(message: &Message) -> Parsed<Option<Framing>> {
    let lengths: Vec<&[u8]> = message.values("content-length").collect();
    let codings: Vec<&[u8]> = message.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => {
            let told = String::from_utf8_lossy(length);
            number(length).map_or_else(
                || invalid(format!("content-length {told:?}")),
                |length| Ok(Some(Framing::Length(length))),
            )
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        _ => invalid("more than one framing"),
    }
}

/// Reads the body into the message; how many bytes it takes.
fn body(bytes: &[u8], framing: Framing, closed: bool, message: &mut Message) -> Parsed<usize> {
    match framing {
        Framing::Length(length) if bytes.len() < length => Err(Stop::Partial),
        Framing::Length(length) => {
            message.body = bytes[..length].to_vec();
            Ok(length)
        }
        Framing::Close if !closed => Err(Stop::Partial),
        Framing::Close => {
            message.body = bytes.to_vec();
            Ok(bytes.len())
        }
        Framing::Chunked => chunks(bytes, message),
    }
}

fn chunks(bytes: &[u8], message: &mut Message) -> Parsed<usize> {
    let mut at = 0;
    loop {
        let (text, length) = line(&bytes[at..])?;
        at += length;
        let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&text[..digits]).unwrap_or_default();
        let size = match usize::from_str_radix(size, 16) {
            Ok(number) if are_extensions(&text[digits..]) => number,
            _ => return invalid(format!("chunk size {:?}", String::from_utf8_lossy(text))),
        };
        if size == 0 {
            message.trailers = fields(bytes, &mut at)?;
            return Ok(at);
        }
        let Some(data) = bytes.get(at..at.saturating_add(size)) else { return Err(Stop::Partial) };
        message.body.extend_from_slice(data);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return invalid("a chunk that does not end where it should"),
            None => return Err(Stop::Partial),
        }
    }
}

/// Whether this may follow a chunk's size: names, each after a semicolon and perhaps with a value
/// (RFC 9112 §7.1.1).
fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let name = after_blanks(text).strip_prefix(b";").map(after_blanks);
        let Some(after_name) = name.and_then(after_token) else { return false };
        text = after_name;
        if let Some(value) = after_blanks(after_name).strip_prefix(b"=").map(after_blanks) {
            let after_value = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quotes(quoted),
                None => after_token(value),
            };
            let Some(after_value) = after_value else { return false };
            text = after_value;
        }
    }
    true
}

fn after_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[blanks..]
}

/// What follows the token that a text begins with, if it does.
fn after_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token_char(**byte)).count();
    (length > 0).then(|| &text[length..])
}

/// What follows the closing quote, if there is one and nothing before it that may not be quoted.
fn after_quotes(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if !is_control(*byte) => rest,
            _ => return None,
        };
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_char)
}

fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7F
}

#[cfg(test)]
mod tests;
