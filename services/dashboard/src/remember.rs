//! Asking proxies for what they remember, a second after the other.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use chassis::wall;
use http::StatusCode;

use crate::{admin::Fault, hour::Hour, replica::Proxy, settings::TokenSource, slot::Columns};

/// Hears what a proxy remembers of everything, or of one backend, since it was asked last.
pub(crate) async fn refresh(
    proxy: &Proxy,
    hour: &Mutex<Hour>,
    backend: Option<(&str, &str)>,
    token: &TokenSource,
) {
    let (Some(run), Some(ahead)) = (proxy.identity(), ahead(proxy)) else { return };
    let next = lock(hour).next(&run);
    let token = proxy.token_for_reading(token);
    let id = backend.map(|(_, id)| id);
    let answer = match proxy.api.history(next, id, token.as_ref()).await {
        Ok(answer) if answer.resolution_seconds == 1 => answer,
        // Of a backend that has just come there is no hour yet.
        Err(Fault::Status(StatusCode::NOT_FOUND)) if backend.is_some() => return,
        Ok(_) | Err(Fault::Status(_) | Fault::NotAdminApi(_)) => return lock(hour).refused(&run),
        // It is asked again, and tells what was missed.
        Err(_) => return,
    };
    let told: Vec<&Columns> = match backend {
        None => answer.pools.iter().map(|pool| &pool.series).collect(),
        Some((name, id)) => {
            let pools = answer.pools.iter().filter(|pool| pool.name == name);
            let backends = pools.flat_map(|pool| &pool.backends);
            backends.filter(|one| one.id == id).map(|one| &one.series).collect()
        }
    };
    lock(hour).hear(&run, (unix_seconds(), ahead), answer.from, &told);
}

/// How many seconds our clock is ahead of a proxy's.
pub(crate) fn ahead(proxy: &Proxy) -> Option<f64> {
    let picture = proxy.picture.as_ref()?;
    let then = SystemTime::now().checked_sub(picture.at.elapsed())?;
    let theirs = picture.answer.proxy.now()?;
    Some(match then.duration_since(theirs) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    })
}

/// Seconds since 1970, by our clock.
pub(crate) fn unix_seconds() -> u64 {
    wall::now().as_secs()
}

fn lock(hour: &Mutex<Hour>) -> MutexGuard<'_, Hour> {
    hour.lock().unwrap_or_else(PoisonError::into_inner)
}
