//! What a change would do, told before it is made.

use crate::{
    model::{Admin, Backend, Pool},
    words::{number, percent},
};

/// What setting `backend` to `state` would do to the traffic of `pool`.
pub(crate) fn change(pool: &Pool, backend: &Backend, state: Admin) -> String {
    let total = pool.backends.len();
    let serving = pool.serving();
    let rate = backend.traffic.requests_per_second;
    let all = pool.traffic.requests_per_second;
    if state == Admin::Ready {
        return match (backend.serves(), backend.health.is_well()) {
            (true, _) => format!("It serves already, as {serving} of {total} do."),
            (false, true) => format!(
                "Then {} of {total} serve{}.",
                serving + 1,
                share(all, serving + 1)
                    .map(|each| format!(", about {each} each"))
                    .unwrap_or_default()
            ),
            (false, false) => format!(
                "It does not pass its probes: until it does, {serving} of {total} serve, as now."
            ),
        };
    }
    if !backend.serves() {
        return format!("It serves nothing now: {serving} of {total} serve before and after.");
    }
    let left = serving - 1;
    if left == 0 {
        return "No backend would be left: every request would fail. The proxy refuses this unless it is forced.".to_owned();
    }
    let more = if rate > 0.0 && all > rate {
        let each = share(all, left).unwrap_or_default();
        let more = percent((rate / (all - rate) * 100.0).round() / 100.0);
        format!("; its {}/s go to them: about {each} each, {more} more than now", number(rate))
    } else {
        String::new()
    };
    format!("Then {left} of {total} serve{more}.")
}

fn share(all: f64, among: usize) -> Option<String> {
    (all > 0.0).then(|| format!("{}/s", number(all / among as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(states: &[&str]) -> Pool {
        let backends: Vec<serde_json::Value> = states
            .iter()
            .enumerate()
            .map(|(index, state)| {
                serde_json::json!({"id": index.to_string(), "admin": "ready", "health": "up", "effective": state,
                    "traffic": {"requests_per_second": if *state == "serving" { 20.0 } else { 0.0 }}})
            })
            .collect();
        let all = 20.0 * states.iter().filter(|state| **state == "serving").count() as f64;
        serde_json::from_value(serde_json::json!({"name": "p", "backends": backends,
            "traffic": {"requests_per_second": all}}))
        .unwrap()
    }

    #[test]
    fn the_numbers_are_told_before_the_click() {
        let told = |states: &[&str], state| {
            let pool = pool(states);
            change(&pool, &pool.backends[0], state)
        };
        let three = ["serving", "serving", "serving"];
        let drained = "Then 2 of 3 serve; its 20/s go to them: about 30/s each, 50% more than now.";
        assert_eq!(told(&three, Admin::Drain), drained);
        assert!(told(&["serving", "down"], Admin::Maint).starts_with("No backend would be left"));
        assert_eq!(
            told(&["drained", "serving"], Admin::Ready),
            "Then 2 of 2 serve, about 10/s each."
        );
        assert!(told(&["down", "serving"], Admin::Drain).starts_with("It serves nothing now"));
    }
}
