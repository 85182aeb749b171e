//! What a change would do, told before it is made: the proxies' own dry run of it, in sentences.
//!
//! The proxies know their policy, their guard and their backends; a second opinion here would be
//! wrong sooner or later. Of several proxies the traffic adds up, and the one with the fewest
//! backends left is told, as is who would refuse, who sees it otherwise, and who says nothing.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Deserialize;

use crate::{
    model::{Admin, Backend},
    poll::View,
    settings::TokenSource,
    share,
    wish::Wish,
    words::{count, number},
};

/// How far apart the rates of backends may be that get "about" the same.
const ABOUT: f64 = 0.05;

/// What one proxy says to a change that is not made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DryRun {
    refused: bool,
    detail: String,
    prediction: Prediction,
}

/// What would come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Prediction {
    requests_per_second: f64,
    total: usize,
    eligible_before: usize,
    eligible_after: usize,
    backends: Vec<Part>,
}

/// One backend's part of the traffic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    id: String,
    share_before: f64,
    share_after: f64,
    requests_per_second_before: f64,
    requests_per_second_after: f64,
    in_flight_before: u32,
}

/// What all proxies say.
#[derive(Default)]
struct Told<'a> {
    runs: Vec<(&'a str, DryRun)>,
    /// Those that say something else than a prediction.
    objections: Vec<(&'a str, String)>,
    silent: Vec<&'a str>,
}

/// What a change of `backend` would do by the proxies' own word.
pub(crate) async fn ask(
    view: &View,
    token: &TokenSource,
    pool: &str,
    backend: &Backend,
    wish: &Wish,
) -> String {
    let change = wish.change();
    let asked = view.answering().map(async |proxy| {
        let token = proxy.token_for_reading(token);
        (proxy, proxy.api.dry_run((pool, &backend.id), &change, token.as_ref()).await)
    });
    let mut told = Told::default();
    for (proxy, answer) in join_all(asked).await {
        match answer {
            Ok(Ok(run)) => told.runs.push((&proxy.name, run)),
            Ok(Err(sentence)) => told.objections.push((&proxy.name, sentence)),
            Err(_) => told.silent.push(&proxy.name),
        }
    }
    told.silent.extend(view.silent().map(|proxy| proxy.name.as_str()));
    sentences(&told, backend, wish)
}

/// The worst answer first.
fn sentences(told: &Told<'_>, backend: &Backend, wish: &Wish) -> String {
    let several = told.runs.len() + told.objections.len() + told.silent.len() > 1;
    let mut all = Vec::new();
    let refusing: Vec<_> = told.runs.iter().filter(|(_, run)| run.refused).collect();
    if let [(name, run), ..] = &refusing[..] {
        let who = match refusing.len() {
            1 if several => (*name).to_owned(),
            1 => "The proxy".to_owned(),
            many if many == told.runs.len() => format!("All {many} proxies"),
            _ => names(refusing.iter().map(|(name, _)| *name)),
        };
        all.push(format!("{who} would refuse it: {}.", refusal(&run.detail, &backend.id)));
    }
    if let Some(worst) = told.runs.iter().map(|(_, run)| &run.prediction).min_by_key(key) {
        let sum = add(told.runs.iter().map(|(_, run)| &run.prediction), worst);
        // The refusal says it already.
        if refusing.is_empty() || sum.eligible_after > 0 {
            all.push(effect(&sum, told, backend, wish));
        }
        // A limit moves nobody in or out.
        let moves = !matches!(wish, Wish::Limit(_));
        let differs = |run: &DryRun| moves && key(&&run.prediction) != key(&worst);
        let others = told.runs.iter().filter(|(_, run)| differs(run));
        all.extend(others.map(|(name, run)| {
            let Prediction { eligible_after, total, .. } = run.prediction;
            format!("{name} differs: there {eligible_after} of {total} would serve.")
        }));
    }
    let stop = |text: &str| text.trim_end_matches('.').to_owned();
    all.extend(told.objections.iter().map(|(name, said)| format!("{name} says: {}.", stop(said))));
    match &told.silent[..] {
        [] if all.is_empty() => all.push("No proxy says what it would do.".to_owned()),
        [] => {}
        _ if told.runs.is_empty() && told.objections.is_empty() => {
            all.push("What it would do is not known: no proxy answers.".to_owned());
        }
        [one] => all.push(format!("{one} does not answer and is not counted.")),
        more => {
            let names = names(more.iter().copied());
            all.push(format!("{names} do not answer and are not counted."));
        }
    }
    all.join(" ")
}

/// What makes one prediction worse than another.
fn key(prediction: &&Prediction) -> (usize, usize) {
    (prediction.eligible_after, prediction.total)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The proxy's reason without what is for scripts.
fn refusal<'a>(detail: &'a str, id: &str) -> &'a str {
    let reason =
        detail.strip_prefix(id).and_then(|rest| rest.strip_prefix(" would stay as it is: "));
    reason.unwrap_or(detail).trim_end_matches(" with \"force\": true").trim_end_matches('.')
}

/// The traffic of all proxies, and the backends of the `worst` of them. A share counts by how many
/// requests its proxy has; where nobody has any, each proxy counts the same.
fn add<'a>(all: impl Iterator<Item = &'a Prediction> + Clone, worst: &Prediction) -> Prediction {
    let requests_per_second: f64 = all.clone().map(|one| one.requests_per_second).sum();
    let count = all.clone().count() as f64;
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    for one in all {
        let counts = if requests_per_second > 0.0 {
            one.requests_per_second / requests_per_second
        } else {
            1.0 / count
        };
        for part in &one.backends {
            let sum = parts
                .entry(&part.id)
                .or_insert_with(|| Part { id: part.id.clone(), ..Part::default() });
            sum.share_before += part.share_before * counts;
            sum.share_after += part.share_after * counts;
            sum.requests_per_second_before += part.requests_per_second_before;
            sum.requests_per_second_after += part.requests_per_second_after;
        }
    }
    Prediction { requests_per_second, backends: parts.into_values().collect(), ..worst.clone() }
}

fn effect(all: &Prediction, told: &Told<'_>, backend: &Backend, wish: &Wish) -> String {
    match wish {
        Wish::State(Admin::Ready) | Wish::Weight(None | Some(1..)) => comes(all, backend, wish),
        Wish::State(_) | Wish::Weight(Some(0)) => goes(all, backend),
        Wish::Limit(limit) => limited(told, backend, *limit),
        // It is of a pool, and told by no form.
        Wish::Policy(_) => String::new(),
    }
}

/// It has at most so many requests in flight, on each proxy.
fn limited(told: &Told<'_>, backend: &Backend, limit: Option<u32>) -> String {
    let in_flight = |run: &DryRun| run.prediction.part(&backend.id).in_flight_before;
    let most = told.runs.iter().map(|(name, run)| (in_flight(run), *name)).max();
    let (now, name) = most.unwrap_or_default();
    let place = match told.runs.len() {
        0 | 1 => String::new(),
        _ => format!(" on {name}, where it has most"),
    };
    let has = format!("It has {} in flight now{place}", count(now as usize, "request"));
    match limit.or(backend.configured_max_in_flight).filter(|limit| *limit > 0) {
        None => format!("{has}; nothing would limit them."),
        Some(limit) if now <= limit => format!("{has}, which is not above the limit."),
        Some(limit) => format!(
            "{has}, {} above the limit: these end as ever, and new ones go to others or wait in line.",
            now - limit
        ),
    }
}

/// It gets no requests any more.
fn goes(all: &Prediction, backend: &Backend) -> String {
    let Prediction { total, eligible_before: before, eligible_after: after, .. } = all;
    let own = all.part(&backend.id).requests_per_second_before;
    if before == after && own <= 0.0 {
        return format!("It serves nothing now: {before} of {total} serve before and after.");
    }
    if *after == 0 {
        return "No backend would be left: every request would fail.".to_owned();
    }
    let more = match all.others(&backend.id) {
        Some(others) if own > 0.0 => format!("; its {}/s go to them: {others}", number(own)),
        _ => String::new(),
    };
    format!("Then {after} of {total} serve{more}.")
}

/// It gets requests, or more or fewer of them.
fn comes(all: &Prediction, backend: &Backend, wish: &Wish) -> String {
    let Prediction { total, eligible_before: before, eligible_after: after, .. } = all;
    let own = all.part(&backend.id);
    let is_weight = matches!(wish, Wish::Weight(_));
    let stays = before == after && (own.share_after - own.share_before).abs() < 5e-4;
    if stays && own.share_after <= 0.0 {
        return if is_weight {
            format!("It serves nothing now: {before} of {total} serve before and after.")
        } else {
            format!(
                "It does not pass its probes: until it does, {before} of {total} serve, as now."
            )
        };
    }
    if stays {
        return if is_weight {
            format!("It goes on to get {} of the requests.", share::text(own.share_after))
        } else {
            format!("It serves already, as {before} of {total} do.")
        };
    }
    let now = if is_weight {
        format!(" instead of {}", share::text(own.share_before))
    } else {
        String::new()
    };
    let rates = if all.requests_per_second > 0.0 {
        let rest = all.others(&backend.id).map(|others| format!("; the others {others}"));
        format!(", about {}/s{}", number(own.requests_per_second_after), rest.unwrap_or_default())
    } else {
        String::new()
    };
    let gets = share::text(own.share_after);
    format!("Then {after} of {total} serve; it gets {gets}{now} of the requests{rates}.")
}

impl Prediction {
    fn part(&self, id: &str) -> Part {
        self.backends.iter().find(|part| part.id == id).cloned().unwrap_or_default()
    }

    /// What each of the others gets, and how that differs from now; nothing if they get nothing.
    fn others(&self, id: &str) -> Option<String> {
        let is_other = |part: &&Part| part.id != id && part.requests_per_second_after > 0.0;
        let others: Vec<&Part> = self.backends.iter().filter(is_other).collect();
        let after = others.iter().map(|part| part.requests_per_second_after);
        let least = after.clone().reduce(f64::min)?;
        let most = after.clone().fold(least, f64::max);
        let each = if least >= most * (1.0 - ABOUT) {
            format!("about {}/s each", number((least + most) / 2.0))
        } else {
            format!("{} to {}/s each", number(least), number(most))
        };
        let before: f64 = others.iter().map(|part| part.requests_per_second_before).sum();
        let change = after.sum::<f64>() / before - 1.0;
        // Less than half a per cent is no difference.
        if before <= 0.0 || change.abs() < 0.005 {
            return Some(each);
        }
        let word = if change > 0.0 { "more" } else { "less" };
        Some(format!("{each}, {} {word} than now", share::text(change.abs())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a proxy says: by backend the rates before and after.
    fn run(
        (before, after): (usize, usize),
        rates: &[(&str, f64, f64)],
        no: Option<&str>,
    ) -> DryRun {
        let all: f64 = rates.iter().map(|(_, before, _)| before).sum();
        let then: f64 = rates.iter().map(|(_, _, after)| after).sum();
        let part = |(id, before, after): &(&str, f64, f64)| -> Value {
            json!({"id": id, "share_before": before / all.max(1.0),
                "share_after": after / then.max(1.0),
                "requests_per_second_before": before, "requests_per_second_after": after})
        };
        serde_json::from_value(json!({
            "refused": no.is_some(), "detail": no.unwrap_or("a would be changed"),
            "prediction": {"requests_per_second": all, "total": 3, "eligible_before": before,
                "eligible_after": after, "floor": 1,
                "backends": rates.iter().map(part).collect::<Vec<_>>()},
        }))
        .unwrap()
    }

    fn told(runs: &[(&'static str, DryRun)], wish: Wish) -> String {
        let backend = serde_json::from_value(json!({"id": "a"})).unwrap();
        let told = Told { runs: runs.to_vec(), ..Told::default() };
        sentences(&told, &backend, &wish)
    }

    const DRAIN: Wish = Wish::State(Admin::Drain);

    #[test]
    fn what_goes_is_shared_out_among_those_who_stay() {
        let told = |run: DryRun| told(&[("edge-1", run)], DRAIN);
        let three = [("a", 20.0, 0.0), ("b", 20.0, 30.0), ("c", 20.0, 30.0)];
        let drained = "Then 2 of 3 serve; its 20/s go to them: about 30/s each, 50% more than now.";
        assert_eq!(told(run((3, 2), &three, None)), drained);
        let weighted = [("a", 20.0, 0.0), ("b", 10.0, 20.0), ("c", 20.0, 40.0)];
        let uneven = "its 20/s go to them: 20 to 40/s each, 100% more than now.";
        assert!(told(run((3, 2), &weighted, None)).ends_with(uneven));
        let idle = [("a", 0.0, 0.0), ("b", 20.0, 20.0)];
        assert!(told(run((1, 1), &idle, None)).starts_with("It serves nothing now: 1 of 3"));
        assert_eq!(told(run((3, 2), &[("a", 0.0, 0.0)], None)), "Then 2 of 3 serve.");
    }

    const ONLY: &str =
        "a would stay as it is: it is the only one; or force it with \"force\": true";

    #[test]
    fn a_refusal_is_told_first_with_the_proxys_own_reason() {
        let last = || run((1, 0), &[("a", 20.0, 0.0)], Some(ONLY));
        let expected = "The proxy would refuse it: it is the only one; or force it.";
        assert_eq!(told(&[("edge-1", last())], Wish::Weight(Some(0))), expected);
        let well = run((3, 2), &[("a", 20.0, 0.0)], None);
        let expected = "edge-2 would refuse it: it is the only one; or force it. edge-1 differs: \
                        there 2 of 3 would serve.";
        assert_eq!(told(&[("edge-1", well), ("edge-2", last())], DRAIN), expected);
        let all = told(&[("edge-1", last()), ("edge-2", last())], DRAIN);
        assert!(all.starts_with("All 2 proxies would refuse it"), "{all}");
    }

    #[test]
    fn what_comes_gets_its_share() {
        let ready = |run: DryRun| told(&[("edge-1", run)], Wish::State(Admin::Ready));
        let back = [("a", 0.0, 20.0), ("b", 30.0, 20.0), ("c", 30.0, 20.0)];
        let expected = "Then 3 of 3 serve; it gets 33% of the requests, about 20/s; the others \
                        about 20/s each, 33% less than now.";
        assert_eq!(ready(run((2, 3), &back, None)), expected);
        let same = [("a", 20.0, 20.0), ("b", 20.0, 20.0)];
        assert_eq!(ready(run((2, 2), &same, None)), "It serves already, as 2 of 3 do.");
        let down = [("a", 0.0, 0.0), ("b", 20.0, 20.0)];
        assert!(ready(run((1, 1), &down, None)).starts_with("It does not pass"));
    }

    #[test]
    fn a_weight_tells_the_share_before_and_after() {
        let heavier = [("a", 20.0, 36.0), ("b", 20.0, 12.0), ("c", 20.0, 12.0)];
        let told = told(&[("edge-1", run((3, 3), &heavier, None))], Wish::Weight(Some(3)));
        let expected = "Then 3 of 3 serve; it gets 60% instead of 33% of the requests, about 36/s; \
                        the others about 12/s each, 40% less than now.";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_limit_tells_what_is_above_it_where_most_is_in_flight() {
        let run = |in_flight: u32| {
            let mut run = run((2, 2), &[("a", 20.0, 20.0), ("b", 20.0, 20.0)], None);
            run.prediction.backends[0].in_flight_before = in_flight;
            run
        };
        let limit = |runs: &[(&'static str, DryRun)], limit| told(runs, Wish::Limit(limit));
        let one = [("edge-1", run(12))];
        let expected = "It has 12 requests in flight now, 9 above the limit: these end as ever, and \
                        new ones go to others or wait in line.";
        assert_eq!(limit(&one, Some(3)), expected);
        let enough = "It has 12 requests in flight now, which is not above the limit.";
        assert_eq!(limit(&one, Some(12)), enough);
        let nothing = "It has 12 requests in flight now; nothing would limit them.";
        assert_eq!([limit(&one, Some(0)), limit(&one, None)], [nothing, nothing]);
        let several = limit(&[("edge-1", run(1)), ("edge-2", run(5))], Some(9));
        assert!(
            several.contains("5 requests in flight now on edge-2, where it has most,"),
            "{several}"
        );
    }

    #[test]
    fn shares_count_by_the_requests_of_their_proxy() {
        let busy = run((2, 2), &[("a", 30.0, 60.0), ("b", 60.0, 30.0)], None);
        let other = run((2, 2), &[("a", 5.0, 10.0), ("b", 5.0, 0.0)], None);
        let told = told(&[("edge-1", busy), ("edge-2", other)], Wish::Weight(Some(9)));
        assert!(told.contains("it gets 70% instead of 35% of the requests"), "{told}");
    }

    #[test]
    fn traffic_adds_up_the_fewest_are_told_and_who_differs_or_is_silent() {
        let busy = run((3, 2), &[("a", 90.0, 0.0), ("b", 90.0, 180.0)], None);
        let other = run((2, 1), &[("a", 10.0, 0.0), ("b", 10.0, 20.0)], None);
        let mut all = Told {
            runs: vec![("edge-1", busy), ("edge-2", other)],
            objections: vec![("edge-3", "there is no such backend.".to_owned())],
            silent: vec!["edge-4", "edge-5"],
        };
        let backend: Backend = serde_json::from_value(json!({"id": "a"})).unwrap();
        let expected = "Then 1 of 3 serve; its 100/s go to them: about 200/s each, 100% more than \
                        now. edge-1 differs: there 2 of 3 would serve. edge-3 says: there is no \
                        such backend. edge-4, edge-5 do not answer and are not counted.";
        assert_eq!(sentences(&all, &backend, &DRAIN), expected);
        (all.runs, all.objections) = (Vec::new(), Vec::new());
        let unknown = "What it would do is not known: no proxy answers.";
        assert_eq!(sentences(&all, &backend, &DRAIN), unknown);
    }
}
