//! What people and this process itself write for the proxy to read: the state file, and where backends
//! come from.

use crate::{
    clock::Clock,
    hash_key::HashKey,
    source::{Source, StaticBackend},
    state_file::StateFile,
};

const POOL: &str = "default";

/// The bytes of a state file.
///
/// # Panics
/// What is read of it is not what is read of what is written of it.
pub fn state(data: &[u8]) {
    let file = StateFile::new("state.json", Clock::start());
    let Ok((read, written)) = file.again(data, POOL) else { return };
    let again = file.again(&written, POOL);
    let Ok((read_again, written_again)) = again else {
        panic!("{again:?}: {}", String::from_utf8_lossy(&written))
    };
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&written_again));
    // What is written of a time are its milliseconds.
    if !has_finer_times(data) {
        assert_eq!(read, read_again, "{}", String::from_utf8_lossy(&written));
    }
}

/// Whether there is a number with more than three digits behind its point.
fn has_finer_times(text: &[u8]) -> bool {
    text.windows(5).any(|part| part[0] == b'.' && part[1..].iter().all(u8::is_ascii_digit))
}

/// A text for `PROXY_BACKENDS`, and one for `PROXY_HASH_KEY`.
///
/// # Panics
/// What is read of it is not what is read of what is told of it, or it is refused without a reason.
pub fn backends(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = HashKey::parse(&text) {
        assert_eq!(HashKey::parse(&key.to_string()), Ok(key));
    }
    let source = match Source::parse(&text) {
        Ok(source) => source,
        Err(bad) => {
            assert!(!bad.is_empty() && bad.iter().all(|bad| !bad.expected.is_empty()), "{bad:?}");
            assert!(bad.iter().all(|bad| text.contains(&bad.entry)), "{bad:?}");
            return;
        }
    };
    let Source::Static(backends) = &source else {
        return assert_eq!(Source::parse(&source.to_string()), Ok(source));
    };
    let told: Vec<String> = backends.iter().map(told).collect();
    assert_eq!(Source::parse(&told.join(",")), Ok(source));
}

/// A backend as somebody would write it down.
fn told(backend: &StaticBackend) -> String {
    let StaticBackend { id, host, port, weight, tier } = backend;
    let is_named =
        id.as_str() == format!("{host}:{port}") || id.as_str() == format!("[{host}]:{port}");
    assert!(is_named && *port > 0 && *weight <= balance::WEIGHT_MAX, "{backend:?}");
    format!("http://{id};weight={weight};tier={tier}")
}
