//! The settings of the sticky cookie: `PROXY_STICKY_…`.

use std::time::Duration;

use chassis::{secret::Secret, settings::Mistakes, units};

use crate::cookies;

/// Whoever has a cookie can try keys on it for as long as they like: no shorter one.
const SECRET_LENGTH_MIN: usize = 16;

/// How visitors are kept on their backends.
#[derive(Clone, Debug)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// The key that all proxies of a pool share; without one, each start has its own.
    pub secret: Option<Secret>,
    /// How long a cookie holds; zero is as long as the client's session.
    pub ttl: Duration,
    /// After how long without a visit a drain waits for visitors no longer.
    pub idle: Duration,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct StickyRaw {
    /// Name of the cookie that keeps a visitor on its backend, also while that is being drained; none
    /// is off
    #[arg(long, value_name = "NAME")]
    proxy_sticky_cookie: Option<String>,
    /// Key of the cookie's values, the same for all proxies; without one, restarts and other proxies do
    /// not know them
    #[arg(long, value_name = "SECRET")]
    proxy_sticky_secret: Option<String>,
    /// File with that key
    #[arg(long, value_name = "PATH")]
    proxy_sticky_secret_file: Option<String>,
    /// How long a cookie holds from when it was given; 0s is until the client ends its session
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    proxy_sticky_ttl: String,
    /// A backend that is being drained is drained when no visitor has come to it for this long, or at
    /// the drain's deadline; 0s does not wait for visitors
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    proxy_sticky_idle: String,
}

impl StickyRaw {
    #[allow(clippy::option_option)] // The outer is None only if a mistake was noted.
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Option<Sticky>> {
        let name = self.proxy_sticky_cookie.as_deref().unwrap_or_default();
        let cookie = mistakes.parse("proxy_sticky_cookie", name, |name| {
            let is_name = name.is_empty() || cookies::is_name(name);
            is_name.then(|| name.to_owned()).ok_or_else(|| {
                "a cookie's name such as evenkeel: letters, digits and none of ()<>@,;:\\\"/[]?={} or space".to_owned()
            })
        });
        let (value, file) =
            (self.proxy_sticky_secret.as_deref(), self.proxy_sticky_secret_file.as_deref());
        let secret = Secret::parse("proxy_sticky_secret", value, file, mistakes);
        if secret.as_ref().is_some_and(|secret| secret.expose().len() < SECRET_LENGTH_MIN) {
            let name =
                if value.is_some() { "proxy_sticky_secret" } else { "proxy_sticky_secret_file" };
            let expected = format!("a key of at least {SECRET_LENGTH_MIN} characters");
            mistakes.note(name, file.unwrap_or("(hidden)"), expected);
        }
        let ttl = mistakes.parse("proxy_sticky_ttl", &self.proxy_sticky_ttl, units::duration);
        let idle = mistakes.parse("proxy_sticky_idle", &self.proxy_sticky_idle, units::duration);
        let (cookie, ttl, idle) = (cookie?, ttl?, idle?);
        Some((!cookie.is_empty()).then_some(Sticky { cookie, secret, ttl, idle }))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Settings, tests::mistakes},
        *,
    };

    const KEY: &str = "correct-horse-battery";

    #[test]
    fn it_is_off_until_the_cookie_has_a_name() {
        let of = |variables: &[_]| Settings::from_variables(variables).sticky;
        assert!(of(&[]).is_none());
        assert!(of(&[("PROXY_STICKY_COOKIE", ""), ("PROXY_STICKY_SECRET", KEY)]).is_none());
        let variables = [
            ("PROXY_STICKY_COOKIE", "sid"),
            ("PROXY_STICKY_SECRET", KEY),
            ("PROXY_STICKY_TTL", "8h"),
        ];
        let sticky = of(&variables).unwrap();
        assert_eq!((sticky.cookie.as_str(), sticky.ttl), ("sid", Duration::from_secs(8 * 3600)));
        assert_eq!(sticky.idle, Duration::from_secs(60));
        assert!(sticky.secret.unwrap().matches(KEY));
    }

    #[test]
    fn mistakes_name_the_variable_and_never_show_the_key() {
        for (name, value) in [
            ("PROXY_STICKY_COOKIE", "a b"),
            ("PROXY_STICKY_COOKIE", "a=b"),
            ("PROXY_STICKY_SECRET", "shorter-than-16"),
            ("PROXY_STICKY_SECRET_FILE", "/does/not/exist"),
            ("PROXY_STICKY_TTL", "8"),
            ("PROXY_STICKY_IDLE", "8"),
        ] {
            let found = mistakes(&[(name, value)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{name}=")), "{found:?}");
            assert!(!found[0].contains("shorter-than-16"), "{found:?}");
        }
    }
}
