//! The sticky cookie: a visitor stays on the backend that served it first.
//!
//! Its value is a tag of the backend, the first 128 bits of an HMAC (RFC 2104) with SHA-256 over the
//! pool, the backend's name and what tells its instance from others of that name. So it says nothing
//! of addresses, nobody can make one without the key, and proxies that share the key agree without
//! talking to each other. Tags are made when backends arrive; a request costs one look-up of a number.
//!
//! Rejected: the backend's name in the cookie, which tells the world about the network and lets anybody
//! choose a backend; and a table of sessions, which a restart loses and replicas would have to share.

use std::sync::atomic::{AtomicU64, Ordering};

use balance::{Found, Member, NoVisit, Picker, Ticket, Time};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    cookies,
    headers::{X_FORWARDED_PROTO, members},
    settings,
};

/// Names the use of the key, so that what it signs elsewhere is never a tag.
const PURPOSE: &str = "evenkeel sticky cookie 1";

/// What comes after the value, always. `Lax` is sent along when a visitor comes by a link.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";

/// How cookies are read and made.
#[derive(Debug)]
pub(crate) struct Sticky {
    name: String,
    max_age: Option<u64>,
}

/// What becomes of a request's wish to go where it went before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It has none that anybody knows.
    #[default]
    First,
    /// It wants the backend with this tag.
    Wanted(u128),
    /// It goes to that one first.
    Honoured(u128),
    /// That one is full. It goes elsewhere, and remains the other's visitor.
    Elsewhere(u128),
}

/// What became of requests with a cookie.
#[derive(Debug, Default)]
pub(crate) struct VisitCounts([AtomicU64; 3]);

impl VisitCounts {
    /// The names of the results, in the order of [`Self::counts`].
    pub(crate) const RESULTS: [&str; 3] = ["honoured", "elsewhere", "unknown"];

    /// How often it was so.
    pub(crate) fn counts(&self) -> [u64; 3] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The request goes to its backend.
    fn honoured(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Its backend is full.
    fn elsewhere(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    /// The cookie is nobody's who may be visited.
    fn unknown(&self) {
        self.0[2].fetch_add(1, Ordering::Relaxed);
    }
}

impl Sticky {
    pub(crate) fn new(settings: &settings::Sticky) -> Self {
        let seconds = settings.ttl.as_secs_f64().ceil() as u64;
        Self { name: settings.cookie.clone(), max_age: Some(seconds).filter(|age| *age > 0) }
    }

    /// The tag that a request brings. Of several, the first that can be one.
    pub(crate) fn visit(&self, headers: &HeaderMap, counts: &VisitCounts) -> Visit {
        let mut values = cookies::values(headers, &self.name).peekable();
        if values.peek().is_none() {
            return Visit::First;
        }
        match values.find_map(tag_of) {
            Some(tag) => Visit::Wanted(tag),
            None => {
                counts.unknown();
                Visit::First
            }
        }
    }

    /// The field that makes a visitor of a client that a backend has served.
    pub(crate) fn cookie(&self, member: &Member, request: &HeaderMap) -> Option<HeaderValue> {
        let value = URL_SAFE_NO_PAD.encode(member.tag()?.to_be_bytes());
        let mut text = format!("{}={value}; {ATTRIBUTES}", self.name);
        if is_https(request) {
            text.push_str("; Secure");
        }
        if let Some(age) = self.max_age {
            text.push_str(&format!("; Max-Age={age}"));
        }
        HeaderValue::try_from(text).ok()
    }
}

impl Visit {
    /// The backend that a request's first attempt is to go to, if it wants one that it can have.
    pub(crate) fn pick(
        &mut self,
        picker: &mut Picker,
        now: impl FnOnce() -> Time,
        counts: &VisitCounts,
    ) -> Option<Ticket> {
        let Self::Wanted(tag) = *self else { return None };
        match picker.pick_visited(tag, now()) {
            Ok(ticket) => {
                *self = Self::Honoured(tag);
                counts.honoured();
                Some(ticket)
            }
            Err(NoVisit::Full) => {
                *self = Self::Elsewhere(tag);
                counts.elsewhere();
                None
            }
            Err(NoVisit::Unknown) => {
                *self = Self::First;
                counts.unknown();
                None
            }
        }
    }

    /// The same when a request has waited in line: its backend may have room by now.
    pub(crate) fn pick_in_line(
        self,
        picker: &mut Picker,
        now: impl FnOnce() -> Time,
    ) -> Option<Ticket> {
        let Self::Elsewhere(tag) = self else { return None };
        picker.pick_visited_in_line(tag, now()).ok()
    }

    /// Whether a client that this backend has served needs a cookie of it.
    pub(crate) fn needs_cookie(self, member: &Member) -> bool {
        match self {
            Self::First | Self::Wanted(_) => true,
            Self::Honoured(tag) => member.tag() != Some(tag),
            Self::Elsewhere(_) => false,
        }
    }
}

/// Whether a client came by HTTPS, from what a request for a backend says: what a client says of itself
/// that is not trusted has gone by then.
fn is_https(request: &HeaderMap) -> bool {
    let first = request.get(X_FORWARDED_PROTO).and_then(|proto| members(proto).next());
    first.is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"))
}

fn tag_of(value: &[u8]) -> Option<u128> {
    let mut tag = [0; 16];
    match URL_SAFE_NO_PAD.decode_slice(value, &mut tag) {
        Ok(16) => Some(u128::from_be_bytes(tag)),
        _ => None,
    }
}

/// Makes tags, for the pool. Without a secret of the settings' they hold until this process ends.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn tagger(
    settings: &settings::Sticky,
    pool: &'static str,
) -> std::io::Result<impl Fn(&Found) -> u128 + Send + 'static> {
    let key = match &settings.secret {
        Some(secret) => hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()),
        None => {
            tracing::warn!(
                "no PROXY_STICKY_SECRET: after a restart visitors are unknown, and other proxies do \
                 not know them; set it where there are several"
            );
            let mut random = [0; 32];
            let filled = SystemRandom::new().fill(&mut random);
            filled.map_err(|_| std::io::Error::other("the system has no random numbers"))?;
            hmac::Key::new(hmac::HMAC_SHA256, &random)
        }
    };
    Ok(move |found: &Found| tag(&key, pool, found))
}

fn tag(key: &hmac::Key, pool: &str, found: &Found) -> u128 {
    let mut context = hmac::Context::with_key(key);
    // Each with its length, so that no two lists of parts read the same. No instance is another thing
    // than one without a name.
    for part in [PURPOSE, pool, found.id.as_str()].into_iter().chain(found.instance.as_deref()) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let signature = context.sign();
    let first = signature.as_ref().first_chunk().expect("SHA-256 makes 32 bytes");
    u128::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use balance::BackendId;
    use http::header::COOKIE;

    use super::*;

    fn sticky(ttl: Duration) -> Sticky {
        Sticky::new(&settings(ttl))
    }

    fn settings(ttl: Duration) -> settings::Sticky {
        settings::Sticky { cookie: "sid".to_owned(), secret: None, ttl, idle: Duration::ZERO }
    }

    fn found(id: &str, instance: Option<&str>) -> Found {
        let instance = instance.map(str::to_owned);
        Found { instance, ..Found::new(BackendId::new(id), Ok(Vec::new())) }
    }

    fn tag_with(key: &str, pool: &str, found: &Found) -> u128 {
        tag(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), pool, found)
    }

    #[test]
    fn a_tag_is_that_of_one_key_pool_name_and_instance() {
        let of = |key, pool, id, instance| tag_with(key, pool, &found(id, instance));
        let one = of("k", "default", "a:80", Some("1"));
        assert_eq!(one, of("k", "default", "a:80", Some("1")), "each proxy makes the same");
        let others = [
            of("other", "default", "a:80", Some("1")),
            of("k", "other", "a:80", Some("1")),
            of("k", "default", "b:80", Some("1")),
            of("k", "default", "a:80", Some("2")),
            of("k", "default", "a:80", None),
            of("k", "default", "a:8", Some("01")),
            of("k", "default", "a:801", Some("")),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != one && !others[..at].contains(other), "{at}");
        }
    }

    #[test]
    fn what_else_is_told_of_a_backend_is_not_part_of_its_tag() {
        let one = found("a:80", None);
        let moved = Found { weight: 7, tier: 1, is_terminating: true, ..one.clone() };
        assert_eq!(tag_with("k", "p", &one), tag_with("k", "p", &moved));
    }

    #[test]
    fn only_a_value_that_we_write_is_read() {
        let tag: u128 = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;
        let text = URL_SAFE_NO_PAD.encode(tag.to_be_bytes());
        assert_eq!((text.len(), tag_of(text.as_bytes())), (22, Some(tag)));
        let mut last = text.clone().into_bytes();
        // The last character carries two bits of the tag; the others must be zero.
        *last.last_mut().unwrap() += 1;
        let quoted = format!("\"{text}\"");
        let long = text.repeat(1_000);
        let bad: [&[u8]; 7] =
            [b"", b"x", &text.as_bytes()[1..], &last, quoted.as_bytes(), long.as_bytes(), b"\xFF"];
        for bad in bad {
            assert_eq!(tag_of(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_request_wants_the_first_tag_in_any_of_its_fields() {
        let text = |tag: u128| URL_SAFE_NO_PAD.encode(tag.to_be_bytes());
        let counts = VisitCounts::default();
        let visit = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(COOKIE, field.parse().unwrap());
            }
            sticky(Duration::ZERO).visit(&headers, &counts)
        };
        assert_eq!(visit(&[&format!("a=1; sid={}; b=2", text(7))]), Visit::Wanted(7));
        let crumbs = ["a=1", "sid=old", &format!("sid={}", text(7)), &format!("sid={}", text(8))];
        assert_eq!(visit(&crumbs), Visit::Wanted(7));
        assert_eq!(counts.counts(), [0, 0, 0]);
        assert_eq!(visit(&["sid=forged"]), Visit::First);
        assert_eq!(counts.counts(), [0, 0, 1]);
        assert_eq!(visit(&["a=1"]), Visit::First);
        assert_eq!(counts.counts(), [0, 0, 1], "it asked for nobody");
    }

    #[test]
    fn times_of_less_than_a_second_do_not_end_a_cookie_at_once() {
        assert_eq!(sticky(Duration::ZERO).max_age, None);
        assert_eq!(sticky(Duration::from_millis(1)).max_age, Some(1));
        assert_eq!(sticky(Duration::from_secs(3600)).max_age, Some(3600));
    }

    #[test]
    fn without_a_secret_each_start_has_a_key_of_its_own() {
        let settings = settings(Duration::ZERO);
        let of = || tagger(&settings, "default").unwrap()(&found("a:80", None));
        assert_ne!(of(), of());
    }
}
