//! The frames of a WebSocket, followed as they come, and read again by somebody who has all of them.

use crate::websocket::Frames;

/// One direction of a WebSocket, after one byte that says in which pieces it comes.
///
/// # Panics
/// After some piece, where a frame ends or whether one says good-bye is not what is read there.
pub fn websocket(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let (mut frames, mut followed) = (Frames::default(), 0);
    for piece in bytes.chunks(size) {
        frames.follow(piece);
        followed += piece.len();
        let read = read(&bytes[..followed]);
        assert_eq!((frames.is_between(), frames.has_closed()), read, "after {followed} bytes");
    }
}

/// Whether bytes end where a frame does, and whether the header of a close frame is among them
/// (RFC 6455 §5.2).
fn read(bytes: &[u8]) -> (bool, bool) {
    let (mut rest, mut has_closed) = (bytes, false);
    while !rest.is_empty() {
        let Some((opcode, header, payload)) = header(rest) else { return (false, has_closed) };
        has_closed |= opcode == 8;
        let length = u128::from(payload) + header as u128;
        match usize::try_from(length).ok().and_then(|length| rest.get(length..)) {
            Some(after) => rest = after,
            None => return (false, has_closed),
        }
    }
    (true, has_closed)
}

/// A frame's opcode and the lengths of its header and its payload, if all of the header is there.
fn header(bytes: &[u8]) -> Option<(u8, usize, u64)> {
    let [first, second, ..] = *bytes else { return None };
    let mask = if second >= 128 { 4 } else { 0 };
    let (extended, payload) = match second % 128 {
        126 => (2, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into()),
        127 => (8, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        length => (0, length.into()),
    };
    let length = 2 + extended + mask;
    (bytes.len() >= length).then_some((first % 16, length, payload))
}
