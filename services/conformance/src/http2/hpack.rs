//! Fields as HTTP/2 has them (RFC 7541), for a reader that allows no dynamic table: nothing that was
//! said before can be meant.

use super::{huffman, static_table::STATIC};
use crate::message::Fields;

/// The fields of a header block, names as they are.
///
/// # Errors
/// It is none, or refers to a field of an earlier one.
pub fn fields(block: &[u8]) -> Result<Fields, String> {
    let (mut block, mut fields) = (Block(block), Fields::new());
    while let Some(first) = block.0.first() {
        match *first {
            // A field of the table (§6.1).
            0x80.. => {
                let (name, value) = known(block.number(7)?)?;
                fields.push((name.to_owned(), value.as_bytes().to_vec()));
            }
            // One that may be kept from here on (§6.2.1).
            0x40..0x80 => fields.push(block.literal(6)?),
            // A new size of the table of those (§6.3).
            0x20..0x40 => match block.number(5)? {
                0 => {}
                size => return Err(format!("a table of {size} bytes that nobody allowed")),
            },
            // One that may not be kept (§6.2.2, §6.2.3).
            0..0x20 => fields.push(block.literal(4)?),
        }
    }
    Ok(fields)
}

fn known(index: usize) -> Result<(&'static str, &'static str), String> {
    let known = index.checked_sub(1).and_then(|index| STATIC.get(index));
    known.copied().ok_or_else(|| format!("a field {index} that nobody has said"))
}

/// What is left of a header block.
struct Block<'a>(&'a [u8]);

impl Block<'_> {
    /// A field of which at least the value is written out.
    fn literal(&mut self, bits: u32) -> Result<(String, Vec<u8>), String> {
        let name = match self.number(bits)? {
            0 => String::from_utf8_lossy(&self.text()?).into_owned(),
            index => known(index)?.0.to_owned(),
        };
        Ok((name, self.text()?))
    }

    /// A string (§5.2).
    fn text(&mut self) -> Result<Vec<u8>, String> {
        let is_coded = self.0.first().is_some_and(|first| *first >= 0x80);
        let length = self.number(7)?;
        let text = self.0.split_off(..length).ok_or("a string that is cut")?;
        if is_coded { huffman::decode(text) } else { Ok(text.to_vec()) }
    }

    /// A number of which the first byte has so many bits (§5.1).
    fn number(&mut self, bits: u32) -> Result<usize, String> {
        let most = (1 << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        // More than this is longer than all that anybody sends here.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number that is too large".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.0.split_off_first().copied().ok_or_else(|| "a header block that is cut".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::frames;

    /// RFC 7541 §C.6.1, and a field with a long value.
    #[test]
    fn fields_are_read_however_they_are_written() {
        let written = b"\x20\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\
            \xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\
            \x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        let long = "y".repeat(70_000);
        let block = [&written[..], &frames::block(&[("x", &long)]), b"\x89"].concat();
        let expected = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
            ("x", &long),
            (":status", "204"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(fields(&block).unwrap(), expected);
    }

    #[test]
    fn what_nobody_has_said_and_what_is_cut_is_none() {
        for block in
            [&b"\x80"[..], b"\xbe", b"\x21", b"\x00", b"\x00\x02a", b"\x00\x01a\x01", b"\xff"]
        {
            assert!(fields(block).is_err(), "{block:?}");
        }
    }
}
