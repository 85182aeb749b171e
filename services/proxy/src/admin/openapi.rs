//! The OpenAPI document, made from the handlers themselves: what a route takes and answers is
//! said once, beside its code, and the router and the document come from the same list.
//!
//! Problems that the whole API has in common, such as a missing token, are named here.

use std::collections::BTreeMap;

use axum::{
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::header;
use serde::Serialize;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder, SecurityRequirement,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{Admin, prediction::Prediction, view};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Evenkeel admin API",
        description = "Reads and changes what the proxy does. Reading changes nothing; a change \
                       that is refused has changed nothing. Errors are application/problem+json \
                       (RFC 9457) with a sentence that says what to do.",
    ),
    paths(document, alive, ready, metrics),
    components(schemas(Problem))
)]
struct Api;

/// An error (RFC 9457)
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // Only its schema is used: `chassis` writes problems for all services.
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong and what to do, for a person
    detail: String,
    /// With 409: what the change would do
    prediction: Option<Prediction>,
    /// With 409 to a change with a said_at: when the newer word was said that stays
    #[schema(format = DateTime)]
    said_at: Option<String>,
    /// With 412: what was to be changed, as it is now
    current: Option<Current>,
}

/// What a change may be of.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // Only its schema is used.
enum Current {
    Backend(Box<view::Backend>),
    Pool(Box<view::Pool>),
}

/// The document without routes, to which the router adds its own.
pub(super) fn base() -> openapi::OpenApi {
    let mut api = Api::openapi();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    api.components.get_or_insert_default().add_security_scheme("token", token);
    // Without a token set, none is needed: from this machine for changes.
    let none = SecurityRequirement::default();
    api.security = Some(vec![none, SecurityRequirement::new("token", Vec::<String>::new())]);
    api
}

/// The route that serves the document.
pub(super) fn route(api: &openapi::OpenApi) -> axum::Router<Admin> {
    let text = Bytes::from(api.to_json().unwrap_or_default());
    let serve = move || async move { json(text) };
    axum::Router::new().route("/v1/openapi.json", get(serve))
}

fn json(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", responses(
    (status = 200, body = Object, description = "OpenAPI 3.1"),
    Reading,
))]
#[allow(dead_code)] // Describes the route of `route`.
fn document() {}

/// Whether the process answers; 200 also while it stops
#[utoipa::path(get, path = "/healthz", responses(
    (status = 200, body = String, content_type = "text/plain; charset=utf-8"),
))]
#[allow(dead_code)] // Describes a route of `chassis::observe`.
fn alive() {}

/// Whether some backend can take requests
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = String, content_type = "text/plain; charset=utf-8"),
    (status = 503, body = String, content_type = "text/plain; charset=utf-8",
     description = "Not ready, and why"),
))]
#[allow(dead_code)] // Describes a route of `chassis::observe`.
fn ready() {}

/// For Prometheus
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "text/plain; version=0.0.4"),
))]
#[allow(dead_code)] // Describes a route of `chassis::observe`.
fn metrics() {}

/// What any read may be answered with.
pub(super) struct Reading;

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[
            (400, "A parameter is unknown or is not what is expected"),
            (401, "A token for reading is set, and none or another one was sent"),
            (429, "Too many wrong tokens came from this address"),
        ])
    }
}

/// What a read of something named may be answered with beside.
pub(super) struct Finding;

impl IntoResponses for Finding {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[(404, "There is nothing of this name")])
    }
}

/// What a change may be answered with beside success.
pub(super) struct Changing;

impl IntoResponses for Changing {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[
            (400, "The change or a parameter is not what is expected"),
            (401, "A token is set, and none or another one was sent"),
            (403, "Without a token, changes are accepted from this machine only"),
            (404, "There is nothing of this name"),
            (409, "Too few backends would be left; or the same change is being carried out"),
            (412, "Somebody changed it since it was read; `current` tells how it is now"),
            (413, "The change is too long"),
            (415, "The change is not sent as JSON"),
            (422, "The idempotency key was used for another change"),
            (429, "Too many wrong tokens came from this address"),
        ])
    }
}

/// What the announcement of a request may be answered with beside success.
pub(super) struct Announcing;

impl IntoResponses for Announcing {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[
            (400, "The id is not what is expected"),
            (401, "A token is set, and none or another one was sent"),
            (403, "Without a token, this is for this machine only"),
            (429, "Too many are announced; or too many wrong tokens came from this address"),
        ])
    }
}

/// What a read that needs the admin role may be answered with beside.
pub(super) struct Guarded;

impl IntoResponses for Guarded {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        problems(&[(403, "Only for the admin token; without one, for this machine")])
    }
}

fn problems(of: &[(u16, &str)]) -> BTreeMap<String, RefOr<openapi::Response>> {
    of.iter()
        .map(|(status, description)| {
            let content =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new()
                .description(*description)
                .content("application/problem+json", content)
                .build();
            (status.to_string(), RefOr::T(response))
        })
        .collect()
}
