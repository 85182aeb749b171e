//! Room for the fields of a head while it is read.

use std::mem::MaybeUninit;

use httparse::{Error, Header};

/// Up to here there is room on the stack. It is allocated for those that have more, and not for what
/// they might have.
pub(crate) const FIELDS_ON_STACK: usize = 100;

/// The stack's.
pub(crate) type Few<'b> = [MaybeUninit<Header<'b>>; FIELDS_ON_STACK];

/// What is allocated, if anything is.
pub(crate) type Many<'b> = Vec<MaybeUninit<Header<'b>>>;

/// None is in it.
pub(crate) const fn few<'b>() -> Few<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_ON_STACK]
}

/// Reads a head, in `bytes`, of at most so many fields.
///
/// # Errors
/// It cannot be read, or has more.
#[inline]
pub(crate) fn parse<'h, 'b, T>(
    bytes: &[u8],
    count_max: usize,
    (few, many): (&'h mut Few<'b>, &'h mut Many<'b>),
    parse: impl Fn(&'h mut [MaybeUninit<Header<'b>>]) -> Result<T, Error>,
) -> Result<T, Error> {
    match parse(&mut few[..count_max.min(FIELDS_ON_STACK)]) {
        Err(Error::TooManyHeaders) if count_max > FIELDS_ON_STACK => {
            many.resize_with(room(bytes, count_max), MaybeUninit::uninit);
            parse(many)
        }
        parsed => parsed,
    }
}

/// For how many fields there is to be room where they are more than there is on the stack: each has a
/// line, and that of the request or status is enough for one that has not come to its end.
fn room(bytes: &[u8], count_max: usize) -> usize {
    memchr::memchr_iter(b'\n', bytes).count().min(count_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_the_fields_that_there_are_and_not_for_all_that_may_be() {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(150));
        for (count_max, is_read, allocated) in
            [(10_000, true, 152), (150, true, 150), (120, false, 120), (100, false, 0)]
        {
            let (mut few, mut many) = (few(), Many::new());
            let parsed = parse(text.as_bytes(), count_max, (&mut few, &mut many), |fields| {
                let mut response = httparse::Response::new(&mut []);
                httparse::ParserConfig::default().parse_response_with_uninit_headers(
                    &mut response,
                    text.as_bytes(),
                    fields,
                )
            });
            assert_eq!((parsed.is_ok(), many.len()), (is_read, allocated), "{count_max}");
        }
    }
}
