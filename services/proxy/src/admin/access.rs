//! Who may do what over the admin API.
//!
//! Two roles, each by a token: *read* and *admin*, which includes it. Without tokens everybody who
//! reaches the port may read, and only this machine may change things; `chassis::access` tells
//! which dangers that answers. The table is in the README, and the test below goes through it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chassis::{access, attempts::Attempts, problem::Problem, token::Token};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use super::{Admin, audit};

/// Who asks, and by what right.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(super) address: IpAddr,
    pub(super) role: Role,
}

/// By what right somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// With the admin token.
    Admin,
    /// From this machine, where no admin token is set.
    Local,
    /// With the token for reading.
    Read,
    /// By none in particular.
    Anybody,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Local => "local",
            Self::Read => "read",
            Self::Anybody => "none",
        }
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// To read what is going on.
    Read,
    /// To change something, or to read who did.
    Admin,
}

/// What decides.
struct Rules<'a> {
    admin: Option<&'a Token>,
    read: Option<&'a Token>,
    attempts: &'a Attempts,
}

/// Lets a request through, or answers and notes why not.
pub(super) async fn check(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = peer.ip().to_canonical();
    let (need, path) = (need(request.method(), request.uri()), request.uri().path().to_owned());
    let decided = Rules::of(&admin).decide(address, request.headers(), need, Instant::now());
    let actor = audit::actor(address, request.headers());
    let role = decided.as_ref().map_or(Role::Anybody, |role| *role);
    let caller = Caller { address, role };
    match decided {
        Ok(_) => {
            request.extensions_mut().insert(caller.clone());
            super::as_problem(next.run(request).await).await
        }
        Err(problem) => {
            if need == Need::Admin && problem.status() != StatusCode::TOO_MANY_REQUESTS {
                admin.tell_refused(&caller, actor, path, &problem);
            }
            problem.into_response()
        }
    }
}

/// Whether whoever asked with these headers could go on reading now: what holds for a request holds
/// for an answer without end, too. This is no attempt at a token: it was right once.
pub(super) fn may_still_read(admin: &Admin, headers: &HeaderMap) -> bool {
    let rules = Rules::of(admin);
    let shows_one = |candidate| rules.shown(candidate) != (false, false);
    rules.read.is_none() || access::bearer(headers).is_some_and(shows_one)
}

fn need(method: &Method, uri: &Uri) -> Need {
    let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // It changes nothing and tells nothing that a reader could not work out, and who only reads is
    // to see what a change would do. The whole query: nothing in it is left for anybody to read
    // otherwise than it is read here.
    let is_dry_run = *method == Method::PATCH && uri.query() == Some("dry_run=true");
    let is_for_readers = is_reading && uri.path() != audit::PATH;
    if is_for_readers || is_dry_run { Need::Read } else { Need::Admin }
}

impl<'a> Rules<'a> {
    fn of(admin: &'a Admin) -> Self {
        Self {
            admin: admin.settings.admin_token.as_ref(),
            read: admin.settings.admin_read_token.as_ref(),
            attempts: &admin.attempts,
        }
    }

    fn decide(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        need: Need,
        now: Instant,
    ) -> Result<Role, Problem> {
        let forbidden = |detail| Err(Problem::new(StatusCode::FORBIDDEN, detail));
        if need == Need::Admin && access::is_cross_site(headers) {
            return forbidden("requests of pages of other sites are refused");
        }
        if need == Need::Read && self.read.is_none() {
            return Ok(Role::Anybody);
        }
        if let (Some(candidate), true) = (access::bearer(headers), self.has_token()) {
            match self.by_token(peer, candidate, need, now) {
                // There is no other token that it could send.
                Ok(Role::Read) if need == Need::Admin => {}
                decided => return decided,
            }
        }
        if need == Need::Read || self.admin.is_some() {
            return Err(unauthorised("send the token as 'Authorization: Bearer TOKEN'"));
        }
        let is_here = access::is_local(peer)
            && access::host_is_address(headers)
            && !access::is_forwarded(headers);
        if is_here {
            return Ok(Role::Local);
        }
        forbidden(
            "without an admin token, this is for this machine only: set PROXY_ADMIN_TOKEN to do it \
             from elsewhere",
        )
    }

    /// Whether this is the admin token, and whether it is that for reading. Both are compared, so that
    /// the time tells nothing about which of them it was.
    fn shown(&self, candidate: &str) -> (bool, bool) {
        let is = |token: Option<&Token>| token.is_some_and(|token| token.matches(candidate));
        (is(self.admin), is(self.read))
    }

    fn has_token(&self) -> bool {
        self.admin.is_some() || self.read.is_some()
    }

    fn by_token(
        &self,
        peer: IpAddr,
        candidate: &str,
        need: Need,
        now: Instant,
    ) -> Result<Role, Problem> {
        if let Err(wait) = self.attempts.check(peer, now) {
            let seconds = wait.as_secs_f64().ceil();
            let detail = format!("too many wrong tokens from {peer}: wait {seconds} s");
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            let after = HeaderValue::from(seconds as u64);
            return Err(problem.with_header(header::RETRY_AFTER, after));
        }
        match (self.shown(candidate), need) {
            ((true, _), _) => Ok(Role::Admin),
            ((false, true), Need::Read) => Ok(Role::Read),
            ((false, true), Need::Admin) if self.admin.is_none() => Ok(Role::Read),
            ((false, true), Need::Admin) => {
                let detail = "this token is for reading: send the admin token";
                Err(Problem::new(StatusCode::FORBIDDEN, detail))
            }
            ((false, false), _) => {
                self.attempts.failed(peer, candidate, now);
                Err(unauthorised("this token is not the right one"))
            }
        }
    }
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use chassis::secret::Secret;

    use super::*;

    fn token(text: &str) -> Token {
        Token::Fixed(Secret::new(text).unwrap())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:9901".parse().unwrap());
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    /// Who may do what, by what is set: the statuses of a read, of a change and of `/v1/audit`.
    /// 200 is yes.
    #[test]
    fn each_caller_gets_what_the_table_says() {
        let (admin, read) = (token("admin-token"), token("read-token"));
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 9]));
        let bearer = |token: &str| format!("Bearer {token}");
        let (right, reading, wrong) =
            (bearer("admin-token"), bearer("read-token"), bearer("wrong-token"));
        let none: &[(&'static str, &str)] = &[];
        let by = |value| [("authorization", value)];
        // Read, and the other two, without tokens; with the admin token set; with both set; with only
        // the one for reading.
        type Cell = (u16, u16);
        type Row<'a> = (&'a str, IpAddr, Vec<(&'static str, &'a str)>, [Cell; 4]);
        let rows: [Row<'_>; 12] = [
            (
                "here, no token sent",
                here,
                none.to_vec(),
                [(200, 200), (200, 401), (401, 401), (401, 200)],
            ),
            (
                "elsewhere, none sent",
                there,
                none.to_vec(),
                [(200, 403), (200, 401), (401, 401), (401, 403)],
            ),
            (
                "admin token",
                there,
                by(&*right).to_vec(),
                [(200, 403), (200, 200), (200, 200), (401, 401)],
            ),
            (
                "read token",
                there,
                by(&*reading).to_vec(),
                [(200, 403), (200, 401), (200, 403), (200, 403)],
            ),
            (
                "read token, here",
                here,
                by(&*reading).to_vec(),
                [(200, 200), (200, 401), (200, 403), (200, 200)],
            ),
            (
                "wrong token",
                there,
                by(&*wrong).to_vec(),
                [(200, 403), (200, 401), (401, 401), (401, 401)],
            ),
            (
                "wrong token, here",
                here,
                by(&*wrong).to_vec(),
                [(200, 200), (200, 401), (401, 401), (401, 401)],
            ),
            (
                "through a proxy here",
                here,
                vec![("x-forwarded-for", "10.0.0.9")],
                [(200, 403), (200, 401), (401, 401), (401, 403)],
            ),
            (
                "through nginx here as it comes, by a browser",
                here,
                vec![("origin", "https://ops.example"), ("sec-fetch-site", "same-origin")],
                [(200, 403), (200, 401), (401, 401), (401, 403)],
            ),
            (
                "a rebound name",
                here,
                vec![("host", "evil.example")],
                [(200, 403), (200, 401), (401, 401), (401, 403)],
            ),
            (
                "a page of another site",
                here,
                vec![("origin", "http://evil.example")],
                [(200, 403), (200, 403), (401, 403), (401, 403)],
            ),
            (
                "another site's page with the token",
                here,
                vec![("origin", "http://evil.example"), ("authorization", &right)],
                [(200, 403), (200, 403), (200, 403), (401, 403)],
            ),
        ];
        for (name, peer, pairs, cells) in rows {
            let set = [
                (None, None),
                (Some(&admin), None),
                (Some(&admin), Some(&read)),
                (None, Some(&read)),
            ];
            for ((admin, read), (reads, changes)) in set.into_iter().zip(cells) {
                for (need, expected) in [(Need::Read, reads), (Need::Admin, changes)] {
                    let attempts = Attempts::default();
                    let rules = Rules { admin, read, attempts: &attempts };
                    let decided = rules.decide(peer, &headers(&pairs), need, Instant::now());
                    let status = decided.map_or_else(|problem| problem.status().as_u16(), |_| 200);
                    let set = (admin.is_some(), read.is_some());
                    assert_eq!(status, expected, "{name}, {need:?}, tokens set: {set:?}");
                }
            }
        }
    }

    #[test]
    fn what_changes_nothing_is_for_readers_except_who_did_what() {
        let cases = [
            (Method::GET, "/v1/pools", Need::Read),
            (Method::HEAD, "/v1/decisions/x", Need::Read),
            (Method::GET, "/v1/audit", Need::Admin),
            (Method::GET, "/v1/audit?limit=1", Need::Admin),
            (Method::PUT, "/v1/decisions/x", Need::Admin),
            (Method::PATCH, "/v1/pools/p/backends/b", Need::Admin),
            (Method::PATCH, "/v1/pools/p/backends/b?dry_run=true", Need::Read),
            (Method::PATCH, "/v1/pools/p/backends/b?dry_run=false", Need::Admin),
            (Method::PATCH, "/v1/pools/p/backends/b?dry_run=true&dry_run=false", Need::Admin),
            (Method::PATCH, "/v1/pools/p/backends/b?dry_run=false&dry_run=true", Need::Admin),
            (Method::PATCH, "/v1/pools/p/backends/b?dry%5Frun=true", Need::Admin),
            (Method::PUT, "/v1/pools/p/backends/b?dry_run=true", Need::Admin),
            (Method::DELETE, "/v1/pools/p", Need::Admin),
        ];
        for (method, uri, expected) in cases {
            assert_eq!(need(&method, &uri.parse().unwrap()), expected, "{method} {uri}");
        }
    }

    #[test]
    fn after_ten_wrong_tokens_even_the_right_one_waits_but_not_from_elsewhere() {
        let (admin, attempts) = (token("admin-token"), Attempts::default());
        let rules = Rules { admin: Some(&admin), read: None, attempts: &attempts };
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        let ask = |peer, candidate: &str| {
            let headers = headers(&[("authorization", &format!("Bearer {candidate}"))]);
            rules.decide(peer, &headers, Need::Admin, now)
        };
        for n in 0..10 {
            let problem = ask(guesser, &format!("guess-number-{n}")).unwrap_err();
            assert_eq!(problem.status(), 401);
        }
        let limited = ask(guesser, "admin-token").unwrap_err();
        assert!(limited.status() == 429 && limited.detail().contains("wait 6 s"), "{limited:?}");
        assert_eq!(ask(other, "admin-token").unwrap(), Role::Admin);
    }
}
