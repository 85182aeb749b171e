//! Sessions of people who signed in with the admin token, and the brake on those who guess.
//!
//! In memory only: a restart signs everybody out, which costs one form. Each table is bounded, so
//! that a stranger can neither fill the memory nor, by signing in often, outlive the limits.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    net::IpAddr,
    time::Duration,
};

use chassis::{access::network, secret::Secret};
use tokio::time::Instant;

/// A working day with room: longer only helps whoever finds the browser open.
pub(crate) const SESSION_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// With one token; more than a team has browsers.
const SESSIONS_MOST: usize = 256;

/// Wrong tokens that one address may show within [`FAILURE_TIME`]: typing errors, not guessing.
const FAILURES_MOST: u32 = 5;
/// How long failures count.
const FAILURE_TIME: Duration = Duration::from_secs(60);
/// Addresses remembered for their failures.
const ADDRESSES_MOST: usize = 1024;

/// A random name that nobody can guess: 128 bits, as request ids have.
pub(crate) fn random_id() -> io::Result<String> {
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Open sessions.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<String, Session>);

struct Session {
    until: Instant,
    /// The token that opened it. When the proxy gets another, old sessions end.
    token: Secret,
}

impl Sessions {
    /// Opens a session; the oldest one with the same token ends if there are too many. Not one with
    /// another: whoever may only read must not be able to sign operators out.
    pub(crate) fn open(&mut self, token: Secret, now: Instant) -> io::Result<String> {
        self.0.retain(|_, session| session.until > now);
        let alike = || self.0.iter().filter(|(_, session)| session.token.matches(token.expose()));
        if alike().count() >= SESSIONS_MOST {
            let oldest = alike().min_by_key(|(_, session)| session.until);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.0.remove(&oldest);
            }
        }
        let id = random_id()?;
        self.0.insert(id.clone(), Session { until: now + SESSION_TIME, token });
        Ok(id)
    }

    /// Ends a session.
    pub(crate) fn close(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Whether a session is open and was opened with the token that still counts.
    pub(crate) fn is_open(&self, id: &str, token: &Secret, now: Instant) -> bool {
        self.0
            .get(id)
            .is_some_and(|session| session.until > now && session.token.matches(token.expose()))
    }
}

/// Wrong tokens by address.
#[derive(Default)]
pub(crate) struct Failures(HashMap<IpAddr, (u32, Instant)>);

impl Failures {
    /// How long an address must wait before it may show a token again, if it must.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let (count, since) = self.0.get(&network(address))?;
        let left = (*since + FAILURE_TIME).checked_duration_since(now)?;
        (*count >= FAILURES_MOST && !left.is_zero()).then_some(left)
    }

    /// Notes a wrong token.
    pub(crate) fn note(&mut self, address: IpAddr, now: Instant) {
        self.0.retain(|_, (_, since)| now < *since + FAILURE_TIME);
        let address = network(address);
        if self.0.len() >= ADDRESSES_MOST && !self.0.contains_key(&address) {
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.0.remove(&oldest);
            }
        }
        self.0.entry(address).or_insert((0, now)).0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[test]
    fn a_session_ends_by_time_by_sign_out_and_by_a_new_token() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let id = sessions.open(token("correct-horse"), now).unwrap();
        assert!(sessions.is_open(&id, &token("correct-horse"), now));
        assert!(!sessions.is_open(&id, &token("another-horse"), now));
        assert!(!sessions.is_open(&id, &token("correct-horse"), now + SESSION_TIME));
        assert!(!sessions.is_open("guessed", &token("correct-horse"), now));
        sessions.close(&id);
        assert!(!sessions.is_open(&id, &token("correct-horse"), now));
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let ids: Vec<String> = (0..=SESSIONS_MOST)
            .map(|n| {
                let now = start + Duration::from_secs(n as u64);
                sessions.open(token("correct-horse"), now).unwrap()
            })
            .collect();
        let now = start + Duration::from_secs(SESSIONS_MOST as u64);
        assert!(!sessions.is_open(&ids[0], &token("correct-horse"), now));
        assert!(ids[1..].iter().all(|id| sessions.is_open(id, &token("correct-horse"), now)));
    }

    #[test]
    fn many_sessions_with_one_token_end_none_with_another() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let operator = sessions.open(token("correct-horse"), now).unwrap();
        for _ in 0..=SESSIONS_MOST {
            sessions.open(token("to-read-only"), now).unwrap();
        }
        assert!(sessions.is_open(&operator, &token("correct-horse"), now));
        assert_eq!(sessions.0.len(), SESSIONS_MOST + 1);
    }

    #[test]
    fn the_fifth_wrong_token_makes_an_address_wait_a_minute() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..FAILURES_MOST {
            assert_eq!(failures.wait(guesser, now), None);
            failures.note(guesser, now);
        }
        assert_eq!(failures.wait(guesser, now), Some(FAILURE_TIME));
        assert_eq!(failures.wait(other, now), None);
        assert_eq!(failures.wait(guesser, now + FAILURE_TIME), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together_and_the_table_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for host in 0..FAILURES_MOST {
            failures.note(format!("2001:db8::{host}").parse().unwrap(), now);
        }
        assert!(failures.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        for n in 0..10_000_u32 {
            failures.note(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(failures.0.len() <= ADDRESSES_MOST);
    }
}
