//! `Max-Forwards` of OPTIONS and TRACE: how many more proxies a request may pass (RFC 9110 §7.6.2).

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::error::Reason;

pub(crate) const MAX_FORWARDS: HeaderName = HeaderName::from_static("max-forwards");

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Pass it on.
    Forward,
    /// It ends here.
    Answer,
}

/// Counts this proxy.
///
/// # Errors
/// [`Reason::BadRequest`] if there is not one number.
pub(crate) fn count_down(method: &Method, headers: &mut HeaderMap) -> Result<Hop, Reason> {
    if !matches!(*method, Method::OPTIONS | Method::TRACE) {
        return Ok(Hop::Forward);
    }
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let left: u64 = match (values.next(), values.next()) {
        (None, _) => return Ok(Hop::Forward),
        (Some(value), None) => number(value).ok_or(Reason::BadRequest)?,
        (Some(_), Some(_)) => return Err(Reason::BadRequest),
    };
    match left.checked_sub(1) {
        None => Ok(Hop::Answer),
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            Ok(Hop::Forward)
        }
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    // `parse` would take a sign. More than a number can say is as good as no limit.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(method: Method, values: &[&str]) -> (Result<Hop, Reason>, Vec<String>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(MAX_FORWARDS, value.parse().unwrap());
        }
        let hop = count_down(&method, &mut headers);
        let left = headers.get_all(MAX_FORWARDS).iter().map(|v| v.to_str().unwrap().to_owned());
        (hop, left.collect())
    }

    #[test]
    fn options_and_trace_pass_on_one_less_and_end_at_nothing() {
        for method in [Method::OPTIONS, Method::TRACE] {
            assert_eq!(after(method.clone(), &["10"]), (Ok(Hop::Forward), vec!["9".into()]));
            assert_eq!(after(method.clone(), &["1"]), (Ok(Hop::Forward), vec!["0".into()]));
            assert_eq!(after(method.clone(), &["0"]).0, Ok(Hop::Answer));
            assert_eq!(after(method, &[]).0, Ok(Hop::Forward));
        }
    }

    #[test]
    fn other_methods_are_not_concerned_and_what_is_no_number_is_refused() {
        assert_eq!(after(Method::GET, &["0"]), (Ok(Hop::Forward), vec!["0".into()]));
        for values in [&["x"][..], &["-1"], &["+1"], &[""], &["1", "1"]] {
            assert_eq!(after(Method::OPTIONS, values).0, Err(Reason::BadRequest), "{values:?}");
        }
        let huge = "99999999999999999999999999";
        assert_eq!(after(Method::OPTIONS, &[huge]).0, Ok(Hop::Forward));
    }
}
