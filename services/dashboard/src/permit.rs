//! Who may change something through this page, and who may read it.
//!
//! Somebody on this machine (or from a trusted network) who opened the page by address or as
//! `localhost`; a script that shows the admin token; somebody who signed in with it. Never a page
//! of another site: `chassis::access` tells the dangers. Because this server acts with its own
//! token on behalf of whoever asks, it also wants proof that a browser made the request from this
//! very page: without `Origin` or `Sec-Fetch-Site`, only a bearer token counts.
//!
//! Everybody may read who reaches the page, unless a token for reading is set: then whoever signed in
//! with it or shows it, and whoever may change something.

use std::{
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chassis::{access, problem::Problem, secret::Secret, token::Token};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ipnet::IpNet;
use tokio::time::Instant;

use crate::{
    session::{Failures, Sessions},
    settings::TokenSource,
};

/// The cookie of a session.
pub(crate) const COOKIE: &str = "evenkeel_session";

/// Where the token is, for everybody who is told to sign in.
pub(crate) const WHERE_THE_TOKEN_IS: &str = "It is the proxy's PROXY_ADMIN_TOKEN, or in the file of PROXY_ADMIN_TOKEN_FILE; after an \
     installation with Helm, 'helm status' says how to read it.";

/// By what right somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// On this machine.
    Local,
    /// From a trusted network.
    Trusted,
    /// With the token.
    Token,
    /// Signed in.
    Session,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local => "on this machine",
            Self::Trusted => "trusted client",
            Self::Token => "with the token",
            Self::Session => "signed in",
        })
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Everything.
    Admin,
    /// To read.
    Read,
}

/// Whose clients may change something without a token.
#[derive(Default)]
pub(crate) struct Trusted {
    /// Those on this machine.
    pub(crate) local: bool,
    pub(crate) networks: Vec<IpNet>,
}

/// Decides who may change something, and who may read.
pub(crate) struct Gate {
    token: TokenSource,
    /// None lets everybody read.
    read: Option<Token>,
    trusted: Trusted,
    // Plain mutexes: held for a look-up, never across an await.
    sessions: Mutex<Sessions>,
    failures: Mutex<Failures>,
}

impl Gate {
    /// A gate with its own sessions.
    pub(crate) fn new(token: TokenSource, read: Option<Token>, trusted: Trusted) -> Self {
        Self { token, read, trusted, sessions: Mutex::default(), failures: Mutex::default() }
    }

    /// Whether reading needs a token.
    pub(crate) fn guards_reading(&self) -> bool {
        self.read.is_some()
    }

    /// The admin token as it is now; a file is a few bytes, read where it is needed.
    pub(crate) fn token(&self) -> Result<Option<Secret>, String> {
        self.token.read()
    }

    /// Whether this visitor could change something from the page. A mere look at the page may
    /// well come from a link on another site.
    pub(crate) fn standing(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Right, Problem> {
        let here = access::is_local(peer);
        let near = self.trusted.contains(peer);
        if near && access::is_forwarded(headers) {
            let detail = "this request came through a reverse proxy, which hides where it comes \
                          from: sign in with the admin token";
            return self.signed_in_or(headers, detail.to_owned());
        }
        if near && access::host_is_address(headers) {
            return Ok(if here { Right::Local } else { Right::Trusted });
        }
        let detail = if near {
            "this page was opened under a name that may belong to anybody: open it as \
             http://localhost or by this machine's address, or sign in with the admin token"
                .to_owned()
        } else {
            let whose = if here { "also on this machine" } else { "from another machine" };
            format!(
                "changes {whose} need the admin token: sign in with it, or send it \
                 as 'Authorization: Bearer TOKEN'. {WHERE_THE_TOKEN_IS}"
            )
        };
        self.signed_in_or(headers, detail)
    }

    fn signed_in_or(&self, headers: &HeaderMap, detail: String) -> Result<Right, Problem> {
        if self.has_session(headers, &[Role::Admin]) {
            return Ok(Right::Session);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// Whether this request may read. Whoever may change something may: it would be no secret to them.
    pub(crate) fn check_reading(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.guards_reading() {
            return Ok(());
        }
        if let Some(candidate) = access::bearer(headers) {
            return self.check_token(peer, candidate).map(drop);
        }
        if self.is_signed_in(headers) || self.standing(peer, headers).is_ok() {
            return Ok(());
        }
        let detail = "reading needs a token here: sign in with the one for reading or the admin \
                      token, or send it as 'Authorization: Bearer TOKEN'";
        Err(unauthorised(detail))
    }

    /// Whether this request may change something.
    pub(crate) fn check(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Right, Problem> {
        Self::check_site(headers)?;
        if let Some(candidate) = access::bearer(headers) {
            return match self.check_token(peer, candidate)? {
                (Role::Admin, _) => Ok(Right::Token),
                (Role::Read, _) => {
                    let detail = "this token is for reading: send the admin token";
                    Err(Problem::new(StatusCode::FORBIDDEN, detail))
                }
            };
        }
        Self::check_browser(headers)?;
        self.standing(peer, headers)
    }

    /// Whether a form was sent from our own page, by anybody.
    pub(crate) fn check_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        Self::check_site(headers)?;
        Self::check_browser(headers)
    }

    /// Opens a session for whoever shows one of the tokens on our own form.
    pub(crate) fn sign_in(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        candidate: &str,
    ) -> Result<String, Problem> {
        Self::check_site(headers)?;
        Self::check_browser(headers)?;
        let (_, token) = self.check_token(peer, candidate)?;
        lock(&self.sessions).open(token, Instant::now()).map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no session: {error}"))
        })
    }

    /// Ends the session of this browser.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) -> Result<(), Problem> {
        Self::check_site(headers)?;
        session_ids(headers).for_each(|id| lock(&self.sessions).close(id));
        Ok(())
    }

    /// Whether this browser has a session, be it only to read.
    pub(crate) fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        self.has_session(headers, &[Role::Admin, Role::Read])
    }

    fn has_session(&self, headers: &HeaderMap, roles: &[Role]) -> bool {
        let ids: Vec<&str> = session_ids(headers).collect();
        // Most visitors have no cookie: no need to read the tokens for them.
        if ids.is_empty() {
            return false;
        }
        let now = Instant::now();
        let tokens = roles.iter().filter_map(|role| self.token_of(*role).ok().flatten());
        let is_open =
            |token: Secret| ids.iter().any(|id| lock(&self.sessions).is_open(id, &token, now));
        tokens.into_iter().any(is_open)
    }

    fn token_of(&self, role: Role) -> Result<Option<Secret>, String> {
        match role {
            Role::Admin => self.token(),
            Role::Read => Ok(self.read.as_ref().map(Token::current)),
        }
    }

    fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
        if access::is_cross_site(headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "changes from other sites' pages are refused",
            ));
        }
        Ok(())
    }

    fn check_browser(headers: &HeaderMap) -> Result<(), Problem> {
        if headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "this request does not show that it comes from the page (neither Origin nor \
             Sec-Fetch-Site): scripts send the admin token as 'Authorization: Bearer TOKEN', or \
             use the proxy's admin API",
        ))
    }

    /// Which of the tokens this is.
    fn check_token(&self, peer: IpAddr, candidate: &str) -> Result<(Role, Secret), Problem> {
        let now = Instant::now();
        if let Some(wait) = lock(&self.failures).wait(peer, now) {
            return Err(too_many(wait));
        }
        let mut found = None;
        // Both are compared, so that the time tells nothing about which of them it was.
        for role in [Role::Read, Role::Admin] {
            let token = self.token_of(role).ok().flatten();
            let token = token.filter(|token| token.matches(candidate.trim()));
            found = token.map(|token| (role, token)).or(found);
        }
        if let Some(found) = found {
            return Ok(found);
        }
        if !self.guards_reading() {
            let token = self.token().map_err(|why| Problem::new(StatusCode::FORBIDDEN, why))?;
            token.ok_or_else(|| {
                Problem::new(
                    StatusCode::FORBIDDEN,
                    "the dashboard has no admin token to compare with: set \
                     LOAD_BALANCER_ADMIN_TOKEN or LOAD_BALANCER_ADMIN_TOKEN_FILE, or open the \
                     page on the machine it runs on",
                )
            })?;
        }
        lock(&self.failures).note(peer, now);
        tracing::warn!(%peer, "a wrong token was shown");
        Err(unauthorised("this token is not the right one"))
    }
}

impl Trusted {
    fn contains(&self, peer: IpAddr) -> bool {
        (self.local && access::is_local(peer)) || access::is_within(peer, &self.networks)
    }
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("too many wrong tokens from this address: try again in {seconds} s"),
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

/// What the browser sent under our cookie's name. Another service on the same host may have set
/// one too, so all are tried.
fn session_ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// A panic while holding one of these locks cannot leave the tables half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn gate() -> Gate {
        let token = TokenSource::Given(Secret::new("correct-horse").unwrap());
        let networks = vec!["172.18.0.1/32".parse().unwrap()];
        Gate::new(token, None, Trusted { local: true, networks })
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn every_cell_of_who_may_change() {
        let gate = gate();
        let trusted = IpAddr::from([172, 18, 0, 1]);
        let neighbour = IpAddr::from([172, 18, 0, 5]);
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let host = ("host", "localhost:8090");
        let named = ("host", "evil.example:8090");
        let same = ("origin", "http://localhost:8090");
        let named_same = ("origin", "http://evil.example:8090");
        let fetched = ("sec-fetch-site", "same-origin");
        let typed = ("sec-fetch-site", "none");
        let foreign = ("origin", "http://evil.example");
        let forwarded = ("x-forwarded-for", "10.1.2.3");
        // nginx as it comes passes on what the browser says of its page, and another Host.
        let behind = ("origin", "https://ops.example");
        let cross = ("sec-fetch-site", "cross-site");
        let right = ("authorization", "Bearer correct-horse");
        let wrong = ("authorization", "Bearer incorrect-horse");
        let signed_in = gate.sign_in(neighbour, &headers(&[host, same]), "correct-horse").unwrap();
        let cookie = format!("other=1; {COOKIE}={signed_in}");
        let session = ("cookie", cookie.as_str());
        let made_up = ("cookie", "evenkeel_session=0123456789abcdef");
        type Case<'a> = (&'a str, IpAddr, &'a [(&'static str, &'a str)], Result<Right, u16>);
        let cases: &[Case<'_>] = &[
            ("this machine", HERE, &[host, same], Ok(Right::Local)),
            ("this machine, fetched", HERE, &[host, fetched], Ok(Right::Local)),
            ("this machine, typed", HERE, &[host, typed], Ok(Right::Local)),
            ("this machine by a mapped address", mapped, &[host, same], Ok(Right::Local)),
            ("this machine, no sign of a browser", HERE, &[host], Err(403)),
            ("this machine, rebound name", HERE, &[named, named_same], Err(403)),
            ("this machine, no host", HERE, &[fetched], Err(403)),
            ("forwarded on this machine", HERE, &[host, same, forwarded], Err(403)),
            ("forwarded, session", HERE, &[host, same, forwarded, session], Ok(Right::Session)),
            ("nginx on this machine, a stranger", HERE, &[host, behind, fetched], Err(403)),
            (
                "nginx on this machine, session",
                HERE,
                &[host, behind, fetched, session],
                Ok(Right::Session),
            ),
            ("nginx in a trusted network", trusted, &[host, behind, fetched], Err(403)),
            ("this machine, another site", HERE, &[host, foreign], Err(403)),
            ("this machine, another site, fetched", HERE, &[host, same, cross], Err(403)),
            ("trusted", trusted, &[host, same], Ok(Right::Trusted)),
            ("trusted, rebound name", trusted, &[named, named_same], Err(403)),
            ("trusted, another site", trusted, &[host, foreign], Err(403)),
            ("neighbour", neighbour, &[host, same], Err(403)),
            ("neighbour with the token", neighbour, &[named, right], Ok(Right::Token)),
            (
                "neighbour with the token, another site",
                neighbour,
                &[host, right, foreign],
                Err(403),
            ),
            ("neighbour with a wrong token", neighbour, &[host, same, wrong], Err(401)),
            ("this machine with a wrong token", HERE, &[host, same, wrong], Err(401)),
            ("session", neighbour, &[named, named_same, session], Ok(Right::Session)),
            ("session, another site", neighbour, &[host, foreign, session], Err(403)),
            ("session, no sign of a browser", neighbour, &[host, session], Err(403)),
            ("made up session", neighbour, &[host, same, made_up], Err(403)),
        ];
        for (name, peer, pairs, expected) in cases {
            let result = gate.check(*peer, &headers(pairs));
            let result = result.map_err(|problem| problem.status().as_u16());
            assert_eq!(result, *expected, "{name}");
        }
        let out = headers(&[host, same, session]);
        gate.sign_out(&out).unwrap();
        assert!(gate.check(neighbour, &out).is_err(), "after signing out");
    }

    #[test]
    fn where_this_machine_is_not_trusted_it_needs_the_token_too() {
        let token = TokenSource::Given(Secret::new("correct-horse").unwrap());
        let read = Token::Fixed(Secret::new("battery-staple").unwrap());
        let gate = Gate::new(token, Some(read), Trusted::default());
        let page = [("host", "localhost:8090"), ("origin", "http://localhost:8090")];
        let problem = gate.check(HERE, &headers(&page)).unwrap_err();
        assert!(problem.status() == 403 && problem.detail().contains("also on this machine"));
        assert_eq!(gate.check_reading(HERE, &headers(&page)).unwrap_err().status(), 401);
        let shown = headers(&[page[0], page[1], ("authorization", "Bearer correct-horse")]);
        assert_eq!(gate.check(HERE, &shown).unwrap(), Right::Token);
    }

    #[test]
    fn guessing_is_slowed_down_and_the_right_token_must_wait_too() {
        let gate = gate();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let page = headers(&[("host", "10.0.0.9:8090"), ("origin", "http://10.0.0.9:8090")]);
        let status = |token: &str| {
            gate.sign_in(peer, &page, token).err().map(|problem| problem.status().as_u16())
        };
        for _ in 0..5 {
            assert_eq!(status("wrong-token"), Some(401));
        }
        assert_eq!(status("correct-horse"), Some(429));
    }

    #[test]
    fn guessing_the_token_for_reading_is_slowed_down_also_where_the_admin_token_is_not_there() {
        let read = Token::Fixed(Secret::new("battery-staple").unwrap());
        let gate = Gate::new(TokenSource::None, Some(read), Trusted::default());
        let peer = IpAddr::from([10, 0, 0, 1]);
        let status = |token: &str| {
            let bearer = format!("Bearer {token}");
            let shown = headers(&[("host", "10.0.0.9:8090"), ("authorization", &bearer)]);
            gate.check_reading(peer, &shown).err().map(|problem| problem.status().as_u16())
        };
        assert_eq!(status("battery-staple"), None);
        for _ in 0..5 {
            assert_eq!(status("wrong-token"), Some(401));
        }
        assert_eq!(status("battery-staple"), Some(429));
    }

    #[test]
    fn without_a_token_only_this_machine_may_change_and_nobody_can_sign_in() {
        let trusted = Trusted { local: true, networks: Vec::new() };
        let gate = Gate::new(TokenSource::None, None, trusted);
        let page = headers(&[("host", "localhost:8090"), ("origin", "http://localhost:8090")]);
        assert_eq!(gate.check(HERE, &page).unwrap(), Right::Local);
        let problem = gate.sign_in(HERE, &page, "anything-at-all").unwrap_err();
        assert!(problem.detail().contains("LOAD_BALANCER_ADMIN_TOKEN"));
    }
}
