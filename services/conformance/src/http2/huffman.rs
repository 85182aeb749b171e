//! The Huffman code of HTTP/2 (RFC 7541 Appendix B). It is canonical: of codes that are equally long,
//! each is one more than the one before, so that their lengths say all of it.

/// How many bits each byte has.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The most that one has.
const LONGEST: usize = 30;

/// Bits at the end that fill the last byte: fewer than eight, all of them ones (§5.2).
const PADDING_MOST: usize = 7;

/// The bytes that some bits stand for.
///
/// # Errors
/// They end within a code, or in what may not fill the last byte.
pub(super) fn decode(bits: &[u8]) -> Result<Vec<u8>, String> {
    let mut symbols: Vec<u8> = (0..=u8::MAX).collect();
    symbols.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
    let mut counts = [0; LONGEST + 1];
    LENGTHS.iter().for_each(|length| counts[usize::from(*length)] += 1);
    let mut decoded = Vec::new();
    let (mut code, mut length) = (0, 0);
    // Of the codes that are as long: the first one, and how many symbols have shorter ones.
    let (mut first, mut shorter) = (0, 0);
    let each_bit = bits.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    for bit in each_bit {
        code = code << 1 | usize::from(bit);
        first <<= 1;
        length += 1;
        let Some(count) = counts.get(length) else {
            return Err("the end of a string is no character of one".to_owned());
        };
        if code < first + count {
            decoded.push(symbols[shorter + code - first]);
            (code, length, first, shorter) = (0, 0, 0, 0);
        } else {
            (first, shorter) = (first + count, shorter + count);
        }
    }
    let is_padding = length <= PADDING_MOST && code == (1 << length) - 1;
    is_padding.then_some(decoded).ok_or_else(|| "a string that ends within a character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 §C.4.1, §C.6.1.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        for (bits, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", ""),
        ] {
            assert_eq!(decode(bits).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn what_fills_the_last_byte_is_less_than_a_byte_of_ones() {
        for bits in [&b"\x1e"[..], b"\x64\x02\xff", b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4"]
        {
            assert!(decode(bits).is_err(), "{bits:?}");
        }
    }

    /// With one code for the end of a string there is none left.
    #[test]
    fn the_lengths_leave_room_for_one_code_more() {
        let taken: u64 = LENGTHS.iter().map(|length| 1 << (30 - length)).sum();
        assert_eq!(taken, (1 << 30) - 1);
    }
}
