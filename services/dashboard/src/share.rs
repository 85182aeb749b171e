//! Shares of the traffic: worked out in one way and said in one way, on the page, on a
//! backend's own, in predictions and in the terminal.

use crate::model::{Backend, Pool};

/// What part of its pool's requests a backend gets, 0 to 1; nothing while there are none.
pub(crate) fn of(pool: &Pool, backend: &Backend) -> Option<f64> {
    let all = pool.traffic.requests_per_second;
    (all > 0.0).then(|| backend.traffic.requests_per_second / all)
}

/// A share from 0 to 1 in percent. One of 500 backends gets two in a thousand: below ten percent
/// the tenths are told, above it they are noise. What is not zero is not said to be zero.
pub(crate) fn text(share: f64) -> String {
    match share * 100.0 {
        value if value <= 0.0 => "0%".to_owned(),
        value if value < 0.1 => "<0.1%".to_owned(),
        value if value < 9.95 => {
            let tenths = format!("{value:.1}");
            format!("{}%", tenths.strip_suffix(".0").unwrap_or(&tenths))
        }
        value => format!("{value:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_the_digits_that_tell_something() {
        for (share, told) in [
            (0.0, "0%"),
            (0.000_4, "<0.1%"),
            (0.002, "0.2%"),
            (0.05, "5%"),
            (0.083_3, "8.3%"),
            (0.0996, "10%"),
            (0.334, "33%"),
            (1.0, "100%"),
        ] {
            assert_eq!(text(share), told, "{share}");
        }
    }

    #[test]
    fn of_no_requests_nobody_has_a_share() {
        let pool = |rate: f64| -> Pool {
            serde_json::from_value(serde_json::json!({
                "name": "default", "traffic": {"requests_per_second": rate},
                "backends": [{"id": "a", "traffic": {"requests_per_second": rate / 500.0}}],
            }))
            .unwrap()
        };
        let told = |pool: Pool| of(&pool, &pool.backends[0]);
        assert_eq!(told(pool(0.0)), None);
        assert!((told(pool(1_000.0)).unwrap() - 0.002).abs() < 1e-9);
    }
}
