//! Numbers that say where a message ends. Whoever reads one otherwise than others do reads another
//! message than they, so there is one reader for both sides.

/// Digits of a `Content-Length` that fit any number of bytes there will be, and no overflow.
const LENGTH_DIGITS: usize = 18;

/// Digits of a chunk's size, for the same reason.
const SIZE_DIGITS: u8 = 15;

/// A length is digits and nothing else (RFC 9110 §8.6).
pub(crate) fn length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > LENGTH_DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// A chunk's size as far as it has been read (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkSize {
    value: u64,
    digits: u8,
}

impl ChunkSize {
    /// The size with one more hexadecimal digit; none if that is one too many, or no digit.
    pub(crate) fn push(self, digit: u8) -> Option<Self> {
        let digit = char::from(digit).to_digit(16).filter(|_| self.digits < SIZE_DIGITS)?;
        Some(Self { value: self.value * 16 + u64::from(digit), digits: self.digits + 1 })
    }

    /// The size once another byte has ended it; none if there was no digit.
    pub(crate) fn end(self) -> Option<u64> {
        (self.digits > 0).then_some(self.value)
    }
}
