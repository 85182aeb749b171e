//! What an address of the page says beside its path: how it is shown.
//!
//! Whatever leads from one page to another keeps this, the way back from a form included. It is
//! never copied: what was read is written anew, so that nothing else comes along, such as an
//! address elsewhere or the result of an earlier change.

use http::{HeaderMap, header};
use maud::{Markup, html};
use url::{Url, form_urlencoded::Serializer};

use crate::{charts::Window, sort::Sort};

/// How a page is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How far back its charts look.
    pub(crate) window: Window,
    /// The order of its rows, if somebody chose one.
    pub(crate) sort: Option<Sort>,
}

impl Shown {
    /// What the values of a query say.
    pub(crate) fn parse(window: Option<&str>, sort: Option<&str>) -> Self {
        Self { window: Window::parse(window), sort: Sort::parse(sort) }
    }

    /// How the page was shown that a request comes from, as browsers tell it. The rows are the same
    /// in every order, and so cannot say it themselves.
    pub(crate) fn before(headers: &HeaderMap) -> Self {
        let referer = headers.get(header::REFERER).and_then(|referer| referer.to_str().ok());
        let Some(url) = referer.and_then(|referer| Url::parse(referer).ok()) else {
            return Self::default();
        };
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name);
        let [window, sort] = ["window", "sort"].map(|name| value(name).map(|(_, value)| value));
        Self::parse(window.as_deref(), sort.as_deref())
    }

    /// The address at which a page is shown like this.
    pub(crate) fn address(self, path: &str) -> String {
        self.address_with(path, None)
    }

    /// The same with one thing more in its query.
    pub(crate) fn address_with(self, path: &str, more: Option<(&str, &str)>) -> String {
        let own = self.pairs();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let query = Serializer::new(String::new()).extend_pairs(own.chain(more)).finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// The same as fields of a form.
    pub(crate) fn fields(self) -> Markup {
        html! {
            @for (name, value) in self.pairs() { input type="hidden" name=(name) value=(value); }
        }
    }

    /// What differs from how a page is shown to begin with.
    fn pairs(self) -> Vec<(&'static str, String)> {
        let window = (self.window != Window::default()).then(|| self.window.key().to_owned());
        let pairs = [("window", window), ("sort", self.sort.map(Sort::text))];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_differs_from_the_usual_and_is_read_as_it_was_written() {
        for (query, address) in [
            ("", "/"),
            ("window=minutes", "/"),
            ("window=hour", "/?window=hour"),
            ("sort=rate-turned", "/?sort=rate-turned"),
            ("sort=name&window=hour", "/?window=hour&sort=name"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, format!("http://x/?{query}").parse().unwrap());
            assert_eq!(Shown::before(&headers).address("/"), address);
        }
        let shown = Shown::parse(Some("hour"), None);
        assert_eq!(shown.address_with("/", Some(("result", "7f"))), "/?window=hour&result=7f");
    }

    #[test]
    fn of_an_address_from_elsewhere_only_known_values_are_taken() {
        for referer in [
            "http://evil.example/?window=//evil.example&sort=%0d%0aSet-Cookie:x&result=1",
            "http://x/?sort=rate%26result%3D1",
            "no address",
            "",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, referer.parse().unwrap());
            assert_eq!(Shown::before(&headers).address("/"), "/", "{referer}");
        }
        assert_eq!(Shown::before(&HeaderMap::new()), Shown::default());
    }
}
