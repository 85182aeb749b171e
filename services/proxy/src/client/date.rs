//! The time of an answer (RFC 9110 §6.6.1), written once a second.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// "Sun, 06 Nov 1994 08:49:37 GMT".
const LENGTH: usize = 29;

thread_local! {
    static WRITTEN: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };

    /// The same as a value of its own.
    static VALUE: RefCell<HeaderValue> = const { RefCell::new(HeaderValue::from_static("")) };
}

/// What `Date` says now.
pub(super) fn now() -> [u8; LENGTH] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, date) = WRITTEN.get();
    if second == since.as_secs() {
        return date;
    }
    let date = date_of(since.as_secs());
    WRITTEN.set((since.as_secs(), date));
    date
}

/// The same, ready to be put into a head.
pub(super) fn value() -> HeaderValue {
    let date = now();
    VALUE.with_borrow_mut(|value| {
        if value.as_bytes() != date {
            *value = HeaderValue::from_bytes(&date).unwrap_or_else(|_| value.clone());
        }
        value.clone()
    })
}

fn date_of(second: u64) -> [u8; LENGTH] {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
    let mut date = [b' '; LENGTH];
    date.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_has_it() {
        assert_eq!(&date_of(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(now().len(), LENGTH);
        assert_eq!(value().len(), LENGTH);
    }
}
