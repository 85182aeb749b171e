//! The cookies of a request (RFC 6265 §4.2), which may come in several fields: HTTP/2 clients may send
//! each in one of its own (RFC 9113 §8.2.3), and so do some of HTTP/1.

use http::{HeaderMap, header::COOKIE};

/// The values of all cookies of a name, in the order in which they came. There may be several, such as
/// of different paths. Bytes, because an odd cookie must not hide the others.
pub(crate) fn values<'a>(
    headers: &'a HeaderMap,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> + 'a {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

/// Whether a text can be the name of a cookie: a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
pub(crate) fn is_name(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(fields: &[&[u8]]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        values(&headers, "sid").map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn a_cookie_is_found_in_any_field_and_among_others() {
        assert_eq!(found(&[b"sid=1"]), ["1"]);
        assert_eq!(found(&[b"a=0; sid=1; b=2"]), ["1"]);
        assert_eq!(found(&[b"a=0", b"sid=1", b"b=2"]), ["1"]);
        assert_eq!(found(&[b"a=0;sid=1 ;b", b";; sid=2"]), ["1", "2"]);
        assert_eq!(found(&[b"a=\xFF; sid=a=b"]), ["a=b"]);
        assert_eq!(found(&[b"sid="]), [""]);
    }

    #[test]
    fn other_names_are_other_cookies() {
        let fields: [&[u8]; 6] = [b"", b"sid", b"Sid=1", b"xsid=1", b"sidx=1", b"x=sid=1"];
        assert!(found(&fields).is_empty());
    }

    #[test]
    fn a_name_is_a_token() {
        assert!(is_name("evenkeel") && is_name("__Host-sid") && is_name("a.b"));
        for bad in ["", "a b", "a=b", "a;b", "a,b", "\"a\"", "ä", "a\t"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
