//! Changing how a pool chooses its backends: `PATCH /v1/pools/{pool}`.
//!
//! It has the conventions of changing a backend: a reason, an end, `If-Match`, `Idempotency-Key`,
//! a dry run, an entry in the audit log, the time at which it was said. What it has not is a guard:
//! whatever the policy, whoever can serve serves.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use balance::{Policy, PolicyChange, PolicyPlan, Pool, PoolView, SaidAt};
use chassis::problem::Problem;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin, Caller, audit,
    change::{Options, in_words, refusal},
    incoming::{self, Given, bad},
    make::{Asked, Saved, changed_meanwhile, make},
    openapi::Changing,
    pools::find_pool,
    tag, view,
};
use crate::{audit::Wanted, hash_key::HashKey};

/// A change: a policy, what hash goes by, or both.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PolicyChange)]
#[serde(deny_unknown_fields)]
struct Body {
    /// round_robin, least_request, p2c, least_time, random, first or hash, also by other proxies'
    /// names for them, of which ip_hash, uri_hash, header, cookie and query say what to hash; null
    /// goes back to what is configured
    #[serde(default, deserialize_with = "incoming::given")]
    #[schema(value_type = Option<String>, example = "least_request")]
    policy: Given<String>,
    /// With hash: client_address, path, header:NAME, cookie:NAME or query:NAME. Without it the key
    /// that the policy's name says, or else what is in force stays
    #[schema(example = "cookie:session")]
    hash_key: Option<String>,
    /// One line, for whoever comes next
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// After this long, at most 30 days, what stands without it comes back by itself
    #[schema(example = "30m")]
    ttl: Option<String>,
    /// When it was said, if that was earlier, as of a backend: what was said after it stays
    #[schema(format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    said_at: Option<String>,
}

/// A pool after its change, and whether the change is on disk.
#[derive(Serialize, ToSchema)]
struct MadePool {
    #[serde(flatten)]
    pool: view::Pool,
    #[serde(flatten)]
    saving: Saved,
}

/// What a change would come to, with `dry_run`.
#[derive(Serialize, ToSchema)]
struct PolicyDryRun {
    /// Whether it would be refused
    refused: bool,
    /// In words
    detail: String,
    /// The policy that would be in force then
    policy: &'static str,
    hash_key: String,
}

/// Either of the two answers.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedPool)]
#[serde(untagged)]
#[allow(dead_code)] // Only its schema is used.
enum Changed {
    Pool(Box<MadePool>),
    DryRun(PolicyDryRun),
}

/// Changes how a pool chooses its backends
///
/// No request is lost by it. Nothing has changed if the answer is an error. After a 200, requests
/// go by the new policy. With `If-Match`, only if nobody has changed it since; with
/// `Idempotency-Key`, once even if it is sent again.
#[utoipa::path(
    patch,
    path = "/v1/pools/{pool}",
    params(
        ("pool" = String, Path, description = "The name of a pool", example = "default"),
        ("If-Match" = Option<String>, Header, description = "The tag of what is to be changed"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this one change"),
        ("X-Evenkeel-Actor" = Option<String>, Header, description = "Who asks, for the log"),
        Options,
    ),
    request_body(
        content = Body,
        example = json!({"policy": "hash", "hash_key": "path", "reason": "caches", "ttl": "30m"}),
    ),
    responses(
        (status = 200, body = Changed, headers(
            ("etag" = String, description = "The tag after the change")
        )),
        Changing,
    )
)]
pub(super) async fn patch(
    State(admin): State<Admin>,
    Path(pool): Path<String>,
    Query(options): Query<Options>,
    Extension(caller): Extension<Caller>,
    (headers, uri): (HeaderMap, Uri),
    body: Bytes,
) -> Result<Response, Problem> {
    find_pool(&admin, &pool)?;
    let wish = Wish::parse(incoming::json(&headers, &body)?, admin.control.clock.said_now())?;
    if options.dry_run {
        let told = admin.control.read(|pool| dry_run(&admin, pool, &headers, &wish));
        return told.map(|told| Json(told).into_response());
    }
    let actor = audit::actor(caller.address, &headers);
    let reason = wish.change.reason.clone();
    let by = Some(actor.clone());
    let (headers, uri, body, forced) = (&headers, &uri, &body, false);
    let asked = Asked { caller: &caller, actor, reason, forced, headers, uri, body };
    let apply = |pool: &mut Pool, now| {
        let view = pool.view();
        let before = admin.wanted_policy(&view);
        let plan = consider(&admin, &view, headers, &wish)?;
        let said_now = view.wanted_plan.said.next(admin.control.clock.said_now());
        let said_at = wish.change.said_at.or(Some(said_now));
        let change = PolicyChange { plan, actor: by, said_at, ..wish.change.clone() };
        pool.change_policy(change, now).map_err(|refused| refusal(&view.name, &refused))?;
        Ok((Wanted::Pool(before), Wanted::Pool(admin.wanted_policy(&pool.view()))))
    };
    make(&admin, asked, apply, |saving| {
        let pool = find_pool(&admin, &pool)?;
        Ok((pool.etag().to_owned(), MadePool { pool, saving }))
    })
    .await
}

/// What somebody asks for.
struct Wish {
    policy: Option<Option<Policy>>,
    /// By which name.
    policy_name: String,
    hash_key: Option<HashKey>,
    /// The rest of it.
    change: PolicyChange,
}

impl Wish {
    fn parse(body: Body, now: SaidAt) -> Result<Self, Problem> {
        let (policy, policy_name) = match body.policy {
            Given::Nothing => (None, String::new()),
            Given::Null => (Some(None), String::new()),
            Given::Value(name) => match Policy::from_name(&name) {
                Some(policy) => (Some(Some(policy)), name),
                None => {
                    let all = Policy::all_names();
                    return Err(bad(format!("policy: expected {all}, not {name:?}")));
                }
            },
        };
        let hash_key = body
            .hash_key
            .map(|text| HashKey::parse(&text))
            .transpose()
            .map_err(|expected| bad(format!("hash_key: expected {expected}")))?;
        if policy.is_none() && hash_key.is_none() {
            return Err(bad("the change names neither a policy nor a hash_key"));
        }
        let ttl = incoming::ttl(body.ttl.as_deref())?;
        let reason = incoming::reason(body.reason)?;
        let said_at = incoming::said_at(body.said_at.as_deref(), now)?;
        let change = PolicyChange { reason, ttl, said_at, ..Default::default() };
        Ok(Self { policy, policy_name, hash_key, change })
    }

    /// The plan that it makes of the one in force; `None` is the configured one.
    fn plan(&self, current: &PolicyPlan) -> Result<Option<PolicyPlan>, Problem> {
        let policy = match self.policy {
            Some(Some(policy)) => policy,
            Some(None) if self.hash_key.is_none() => return Ok(None),
            Some(None) => return Err(bad("hash_key: expected only with the policy hash")),
            None => current.policy,
        };
        if self.hash_key.is_some() && policy != Policy::Hash {
            let policy = policy.as_str();
            return Err(bad(format!("hash_key: expected only with the policy hash, not {policy}")));
        }
        // What is in force was parsed before it came to be.
        let usual = HashKey::parse(&current.hash_key).unwrap_or(HashKey::ClientAddress);
        let key = HashKey::beside(&self.policy_name, self.hash_key.clone(), &usual)
            .map_err(|expected| bad(format!("hash_key: expected {expected}")))?;
        Ok(Some(PolicyPlan { policy, hash_key: key.to_string().into() }))
    }
}

/// The plan that a change asks for, unless somebody has made another one meanwhile.
fn consider(
    admin: &Admin,
    view: &PoolView,
    headers: &HeaderMap,
    wish: &Wish,
) -> Result<Option<PolicyPlan>, Problem> {
    let tag = tag::of_pool(view, &admin.control.clock);
    if !tag::matches(headers, &tag) {
        let current = view::pool_of(admin, view);
        let (name, words) = (&view.name, view.plan.describe());
        return Err(changed_meanwhile(name, &words, &tag, current));
    }
    wish.plan(&view.plan)
}

fn dry_run(
    admin: &Admin,
    pool: &Pool,
    headers: &HeaderMap,
    wish: &Wish,
) -> Result<PolicyDryRun, Problem> {
    let view = pool.view();
    let plan = consider(admin, &view, headers, wish)?;
    let asked = plan.as_ref().unwrap_or(&view.configured_plan).describe();
    let after =
        pool.plan_after(PolicyChange { plan, ..wish.change.clone() }, admin.control.clock.now());
    let (name, before) = (&view.name, view.plan.describe());
    let (refused, detail) = match &after {
        Err(refused) => (true, format!("{name} would stay as it is: {}", in_words(refused))),
        Ok(after) if *after != view.plan => {
            (false, format!("{name} would choose by {} instead of {before}", after.describe()))
        }
        Ok(_) if asked != before => {
            let then = format!("by {asked} when the time set for that is over");
            (false, format!("{name} would go on to choose by {before}, and {then}"))
        }
        Ok(_) => (false, format!("{name} would go on to choose by {before}")),
    };
    let plan = after.unwrap_or(view.plan);
    let (policy, hash_key) = (plan.policy.as_str(), plan.hash_key.to_string());
    Ok(PolicyDryRun { refused, detail, policy, hash_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(current: Policy, text: &str) -> Result<Option<(Policy, String)>, String> {
        let current = PolicyPlan { policy: current, hash_key: "path".into() };
        let body = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let plan = Wish::parse(body, SaidAt(0)).and_then(|wish| wish.plan(&current));
        plan.map(|plan| plan.map(|plan| (plan.policy, plan.hash_key.to_string())))
            .map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_policy_by_any_of_its_names_keeps_the_key_in_force() {
        let cases = [
            ("{\"policy\": \"leastconn\"}", Policy::LeastRequest, "path"),
            ("{\"policy\": \"hash\"}", Policy::Hash, "path"),
            ("{\"policy\": \"hash\", \"hash_key\": \"cookie:a\"}", Policy::Hash, "cookie:a"),
            ("{\"policy\": \"uri_hash\"}", Policy::Hash, "path"),
            ("{\"policy\": \"cookie\", \"hash_key\": \"cookie:a\"}", Policy::Hash, "cookie:a"),
            // The name says what to go by, and another key is in force.
            ("{\"policy\": \"ip_hash\"}", Policy::Hash, "client_address"),
        ];
        for (text, policy, key) in cases {
            assert_eq!(plan(Policy::First, text), Ok(Some((policy, key.to_owned()))), "{text}");
        }
        let key = plan(Policy::Hash, "{\"hash_key\": \"query:user\"}");
        assert_eq!(key, Ok(Some((Policy::Hash, "query:user".to_owned()))));
        assert_eq!(plan(Policy::First, "{\"policy\": null}"), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_expected() {
        let cases = [
            ("{}", "neither a policy nor a hash_key"),
            (
                "{\"policy\": \"magic\"}",
                "round_robin (or roundrobin, wrr), least_request (or leastconn",
            ),
            ("{\"policy\": 7}", "invalid type"),
            (
                "{\"policy\": \"first\", \"hash_key\": \"path\"}",
                "only with the policy hash, not first",
            ),
            ("{\"hash_key\": \"path\"}", "only with the policy hash, not round_robin"),
            ("{\"policy\": null, \"hash_key\": \"path\"}", "only with the policy hash"),
            ("{\"policy\": \"hash\", \"hash_key\": \"mood\"}", "header:NAME"),
            ("{\"policy\": \"header\"}", "hash_key: expected header:NAME beside the policy header"),
            (
                "{\"policy\": \"uri_hash\", \"hash_key\": \"cookie:a\"}",
                "hash_key: expected path beside the policy uri_hash",
            ),
            ("{\"policy\": null, \"said_at\": \"noon\"}", "said_at: expected a time"),
            ("{\"policy\": \"first\", \"ttl\": \"0s\"}", "ttl: expected"),
            ("{\"policy\": \"first\", \"reason\": \"a\\nb\"}", "one line"),
            ("{\"policy\": \"first\", \"weight\": 1}", "unknown field"),
        ];
        for (text, expected) in cases {
            let error = plan(Policy::RoundRobin, text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
