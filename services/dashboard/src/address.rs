//! What an address of the page says beside its path: how it is shown.
//!
//! Whatever leads from one page to another keeps this, the way back from a form included. It is
//! never copied: what was read is written anew, so that nothing else comes along, such as an
//! address elsewhere or the result of an earlier change.

use http::{HeaderMap, Uri, header};
use maud::{Markup, html};
use url::{Url, form_urlencoded, form_urlencoded::Serializer};

use crate::{charts::Window, sort::Sort};

/// How a page is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How far back its charts look.
    pub(crate) window: Window,
    /// The order of its rows, if somebody chose one.
    pub(crate) sort: Option<Sort>,
    /// Whether it stands still where JavaScript is off, instead of reloading itself.
    pub(crate) still: bool,
}

/// What an address says for and against `still`.
const STILL: (&str, &str, &str) = ("still", "yes", "no");

impl Shown {
    /// What the values of a query say.
    pub(crate) fn parse(window: Option<&str>, sort: Option<&str>, still: Option<&str>) -> Self {
        Self {
            window: Window::parse(window),
            sort: Sort::parse(sort),
            still: still == Some(STILL.1),
        }
    }

    /// How the page was shown that a request comes from, as browsers tell it. The rows are the same
    /// in every order, and so cannot say it themselves.
    pub(crate) fn before(headers: &HeaderMap) -> Self {
        let referer = headers.get(header::REFERER).and_then(|referer| referer.to_str().ok());
        let Some(url) = referer.and_then(|referer| Url::parse(referer).ok()) else {
            return Self::default();
        };
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name);
        let [window, sort, still] =
            ["window", "sort", STILL.0].map(|name| value(name).map(|(_, value)| value));
        Self::parse(window.as_deref(), sort.as_deref(), still.as_deref())
    }

    /// Where to go instead of an address that does not say whether its page stands still, from a page
    /// that does. Links to backends are many, and the same for all who read them.
    pub(crate) fn stay(uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let query = uri.query().unwrap_or_default();
        let is_said = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == STILL.0);
        if is_said || !Self::before(headers).still {
            return None;
        }
        let and = if query.is_empty() { "" } else { "&" };
        Some(format!("{}?{query}{and}{}={}", uri.path(), STILL.0, STILL.1))
    }

    /// The address of the same page that stands still if this one reloads itself, or the other way round.
    pub(crate) fn turned(self, path: &str) -> String {
        let said = self.still.then_some((STILL.0, STILL.2));
        Self { still: !self.still, ..self }.address_with(path, said)
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
        let still = self.still.then(|| STILL.1.to_owned());
        let pairs = [("window", window), ("sort", self.sort.map(Sort::text)), (STILL.0, still)];
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
            ("still=yes&window=hour", "/?window=hour&still=yes"),
            ("still=no", "/"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, format!("http://x/?{query}").parse().unwrap());
            assert_eq!(Shown::before(&headers).address("/"), address);
        }
        let shown = Shown::parse(Some("hour"), None, None);
        assert_eq!(shown.address_with("/", Some(("result", "7f"))), "/?window=hour&result=7f");
    }

    #[test]
    fn a_page_that_stands_still_leads_to_such_pages_until_it_is_told_otherwise() {
        let stay = |from: &str, to: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, format!("http://x{from}").parse().unwrap());
            Shown::stay(&to.parse().unwrap(), &headers)
        };
        let own = "/backends/default/a%2Fb:1";
        assert_eq!(stay("/?still=yes", own), Some(format!("{own}?still=yes")));
        assert_eq!(stay("/?still=yes", "/?sort=rate"), Some("/?sort=rate&still=yes".to_owned()));
        for (from, to) in [("/", own), ("/?still=no", own), ("/?still=yes", "/?still=no")] {
            assert_eq!(stay(from, to), None, "{from} {to}");
        }
        assert_eq!(stay("/?still=yes", "/?window=hour&still=yes"), None, "it is there");
        let still = Shown { still: true, ..Shown::default() };
        assert_eq!(Shown::default().turned("/"), "/?still=yes");
        assert_eq!(still.turned("/"), "/?still=no");
    }

    #[test]
    fn of_an_address_from_elsewhere_only_known_values_are_taken() {
        for referer in [
            "http://evil.example/?window=//evil.example&sort=%0d%0aSet-Cookie:x&result=1&still=//x",
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
