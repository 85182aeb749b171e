//! Reading answers of HTTP/2: which fields there may be (RFC 9113 §8.2, §8.3), and where they end.

use super::Stream;
use crate::message::{Fields, Message};

/// What concerns one connection, of which HTTP/2 has nothing in fields (§8.2.2).
const OF_CONNECTIONS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

impl Stream {
    /// Takes note of a head, or of the fields after a body.
    pub(super) fn see_fields(&mut self, mut fields: Fields, ends: bool) -> Result<(), String> {
        self.must_go_on()?;
        if let Some(answer) = &mut self.answer {
            are_valid(&fields)?;
            if !ends {
                return Err("fields after a body that are not its end".to_owned());
            }
            answer.trailers = fields;
            return self.end();
        }
        let status = match fields.first() {
            Some((name, status)) if name == ":status" => {
                String::from_utf8_lossy(status).into_owned()
            }
            _ => return Err("a head that does not begin with a status".to_owned()),
        };
        fields.remove(0);
        are_valid(&fields)?;
        let message = Message { start: format!("HTTP/2 {status}"), fields, ..Message::default() };
        match message.status() {
            101 => return Err("another protocol".to_owned()),
            100..=199 if ends => return Err("an end without an answer".to_owned()),
            100..=199 => self.interim.push(message),
            200..=999 => self.answer = Some(message),
            _ => return Err(format!("a status {status:?}")),
        }
        if ends { self.end() } else { Ok(()) }
    }

    /// Takes note of a part of a body.
    pub(super) fn see_data(&mut self, data: &[u8], ends: bool) -> Result<(), String> {
        self.must_go_on()?;
        let answer = self.answer.as_mut().ok_or("a body without a head")?;
        answer.body.extend_from_slice(data);
        if ends { self.end() } else { Ok(()) }
    }

    fn must_go_on(&self) -> Result<(), String> {
        if self.is_whole || self.reset.is_some() {
            Err("something after the end of a stream".to_owned())
        } else {
            Ok(())
        }
    }

    /// One that says how long it is must be so, unless it stands for another (§8.1.1).
    fn end(&mut self) -> Result<(), String> {
        self.is_whole = true;
        let Some(answer) = &self.answer else { return Ok(()) };
        let length = answer.body.len().to_string();
        let is_as_long = answer.values("content-length").all(|told| told == length.as_bytes());
        if answer.body.is_empty() || is_as_long {
            return Ok(());
        }
        Err("a body that is not as long as it says".to_owned())
    }
}

/// Whether these may be the fields of a message, pseudo-headers left out.
///
/// # Errors
/// The first one that may not.
pub fn are_valid(fields: &Fields) -> Result<(), String> {
    let is_name = |name: &str| {
        let is_char = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
        !name.is_empty() && name.bytes().all(|byte| is_char(byte) && !byte.is_ascii_uppercase())
    };
    let is_value = |value: &[u8]| {
        value.trim_ascii() == value && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
    };
    let odd = fields.iter().find(|(name, value)| {
        !is_name(name) || !is_value(value) || OF_CONNECTIONS.contains(&name.as_str())
    });
    odd.map_or(Ok(()), |(name, value)| {
        Err(format!("the field {name:?}: {:?}", String::from_utf8_lossy(value)))
    })
}
