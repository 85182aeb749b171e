//! The lines of messages, and chunks: what [`super::messages`] are read of.

use super::messages::{By, Fields};

/// A head that has not ended here has none.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What the digits of a chunk's size may be, zeros in front included: readers whose numbers overflow at
/// different sizes must not be told different ones (RFC 9112 §7.1).
const SIZE_DIGITS: usize = 15;

/// Fields and the empty line after them.
pub(super) fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Fields>, String> {
    let mut fields = Fields::new();
    loop {
        let Some(line) = line(bytes, at)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let odd = || format!("the field {:?}", String::from_utf8_lossy(&line));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(odd)?;
        let (name, value) = (&line[..colon], without_blanks(&line[colon + 1..]));
        if !is_token(name) {
            return Err(odd());
        }
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
}

/// The line that begins here, without its end.
pub(super) fn line(bytes: &[u8], at: &mut usize) -> Result<Option<Vec<u8>>, String> {
    let rest = &bytes[*at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err("no end".to_owned()) };
    };
    *at += end + 1;
    match rest[..end].strip_suffix(b"\r") {
        Some(line) if line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()) => {
            Ok(Some(line.to_vec()))
        }
        _ => Err(format!("the line {:?}", String::from_utf8_lossy(&rest[..end]))),
    }
}

pub(super) fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

pub(super) fn is_token(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_part)
}

/// A chunked body, the fields after it with their length, and the length of both.
pub(super) type Chunked = (Vec<u8>, (Fields, usize), usize);

/// Reads one, if all of it is there.
pub(super) fn chunked(bytes: &[u8], by: By) -> Result<Option<Chunked>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(bytes, &mut at)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&line);
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(&text[..digits], 16).ok();
        let size = size.filter(|_| digits <= SIZE_DIGITS && may_follow(&line[digits..], by));
        let size = size.ok_or_else(|| format!("a chunk of {text:?}"))?;
        if size == 0 {
            let start = at;
            let fields = fields(bytes, &mut at)?;
            return Ok(fields.map(|fields| (body, (fields, at - start), at)));
        }
        let end = at.saturating_add(size);
        let Some(data) = bytes.get(at..end) else { return Ok(None) };
        body.extend_from_slice(data);
        at = end + 2;
        match bytes.get(end..) {
            Some([b'\r', b'\n', ..]) => {}
            Some([] | [b'\r']) => return Ok(None),
            _ => return Err("a chunk that does not end where it should".to_owned()),
        }
    }
}

/// Whether this may stand behind a chunk's size: names, each behind a semicolon and perhaps with a value
/// (RFC 9112 §7.1.1).
fn may_follow(mut text: &[u8], by: By) -> bool {
    if by == By::Us {
        return text.is_empty();
    }
    loop {
        let rest = after_blanks(text);
        let Some(rest) = rest.strip_prefix(b";") else {
            return rest.is_empty() && (text.is_empty() || by == By::Backend);
        };
        let Some(rest) = after_token(after_blanks(rest)) else { return false };
        text = rest;
        let Some(value) = after_blanks(rest).strip_prefix(b"=") else { continue };
        let value = after_blanks(value);
        let rest = match value.strip_prefix(b"\"") {
            Some(quoted) => after_quotes(quoted),
            None => after_token(value),
        };
        let Some(rest) = rest else { return false };
        text = rest;
    }
}

fn after_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[blanks..]
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token(&[**byte])).count();
    (length > 0).then(|| &text[length..])
}

fn after_quotes(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}
