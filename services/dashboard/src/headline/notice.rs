//! The banners: what is wrong, and what to do about it.

use maud::{Markup, html};

use super::proxies::Proxies;
use crate::{
    icons::icon,
    model::{Answer, Pool},
    poll::View,
    words::span,
};

/// All of them. They lie over the page's lower edge, where one that comes moves nothing and is seen
/// from any row.
pub(crate) fn notice(view: &View) -> Markup {
    html! { div id="notice" { (banners(view)) } }
}

/// The same by themselves, for the page of a file.
pub(crate) fn banners(view: &View) -> Markup {
    html! {
        @if let Some(trouble) = &view.trouble {
            div.banner.bad {
                (icon("warn"))
                div {
                    // Only this is announced: the age below changes every second.
                    p role="alert" { (trouble.explanation) }
                    p.quiet { (age(view)) }
                }
            }
        } @else if let Some(picture) = &view.picture {
            (troubles(&picture.answer, Proxies::of(view).unready()))
        }
    }
}

/// How old a picture is that nobody gives a newer one of.
fn age(view: &View) -> Markup {
    let old = html! { strong { (span(view.age())) " old" } };
    html! {
        @if view.is_saved { "The last picture was " (old) "." }
        @else if view.picture.is_some() { "This is the last picture, " (old) ". The page goes on by itself when the proxy answers again." }
        @else { "This page fills by itself when the proxy answers." }
    }
}

/// What proxies that answer say is wrong, one that is not ready first.
fn troubles(answer: &Answer, unready: Option<String>) -> Markup {
    html! {
        @if let Some(unready) = unready {
            div.banner.busy {
                (icon("warn"))
                p { (unready) }
            }
        }
        @if let Some(why) = &answer.proxy.not_saved_reason {
            div.banner.busy {
                (icon("warn"))
                p { "Changes hold, but a restart of the proxy would undo them: " (why) "." }
            }
        }
        @for (pool, error) in answer.pools.iter().filter_map(|pool| Some((pool, pool.source.error.as_ref()?))) {
            div.banner.busy {
                (icon("warn"))
                p { "Looking up the backends" @if answer.pools.len() > 1 { " of " (pool.name) } " fails, and those known stay: " (error) }
            }
        }
        @if let Some(words) = last_resort(&answer.pools) {
            div.banner.busy {
                (icon("warn"))
                p { (words) }
            }
        }
    }
}

/// What is said while no backend is wholly well and requests go to whoever is left, or wait.
fn last_resort(pools: &[Pool]) -> Option<&'static str> {
    pools.iter().find_map(|pool| match pool.rung.as_str() {
        "degraded" => Some("No backend is wholly well: those that ask to be spared serve."),
        "ejected" => Some("Last resort: ejected backends serve, since no other one can."),
        "terminating" => Some("Last resort: backends that are going away serve."),
        "queue" => Some("Last resort: requests wait a moment for a backend to come back."),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;

    #[test]
    fn a_rung_below_the_first_is_told() {
        let told = |rung: &str| {
            let pool = serde_json::json!({"name": "default", "rung": rung, "backends": []});
            last_resort(&[serde_json::from_value(pool).unwrap()])
        };
        assert!(told("ejected").unwrap().contains("ejected backends serve"));
        assert!(told("queue").unwrap().contains("requests wait"));
        assert_eq!((told("up"), told("of a newer proxy")), (None, None));
    }

    #[test]
    fn the_rung_is_told_beside_what_the_proxy_says_of_itself() {
        let answer = serde_json::json!({
            "proxy": {"started_at": "", "ready": false, "not_ready_reasons": ["1 down"]},
            "pools": [{"name": "default", "rung": "queue", "backends": []}],
        });
        let view = View::saved(
            serde_json::from_value(answer).unwrap(),
            Vec::new(),
            Vec::new(),
            History::default(),
        );
        let page = notice(&view).into_string();
        assert!(page.contains("not ready: 1 down."), "{page}");
        assert!(page.contains("requests wait a moment for a backend to come back"), "{page}");
    }
}
