//! The operator's page: every backend live, and the controls to take one out and bring it back.
//!
//! One task asks the proxy's admin API and publishes what it saw as a `poll::View`; everything
//! a visitor gets is rendered from the newest view. The page is whole without JavaScript; the
//! script only swaps what changed, and asks "sure?" in a dialog.

use std::{net::SocketAddr, net::TcpListener, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chassis::{detach, observe, problem::Problem, serve, shutdown::Shutdown};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use url::Url;

use address::Shown;
pub use settings::{Settings, TokenSource};

mod address;
mod admin;
mod ask;
mod assets;
mod backends_hour;
mod carry;
mod change;
mod charts;
mod clocks;
mod closeup;
mod columns;
mod decision;
mod detail;
mod ends;
mod events;
mod export;
mod family;
mod flash;
mod fleet;
mod frame;
mod gateway;
mod hash;
mod headline;
mod history;
mod hold;
mod hour;
mod icons;
mod intent;
mod latency;
mod live;
mod map;
mod metrics;
mod model;
mod numbers;
mod open;
mod overrides;
mod page;
mod panels;
mod permit;
mod places;
mod poll;
mod predict;
mod probes;
mod proxies;
mod recorded;
mod remember;
mod replica;
mod resolve;
mod said;
mod saved;
mod session;
mod settings;
mod share;
mod sign_in;
mod slot;
mod sort;
mod standing;
mod table;
mod tell;
mod text;
mod timeline;
mod try_it;
mod wish;
mod word;
mod words;

/// A form of this page is a few hundred bytes.
const FORM_MOST: usize = 16 * 1024;

/// Only our own files, nothing inline, nowhere to send a form but here, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'";

/// What the handlers share.
#[derive(Clone)]
struct App {
    url: Arc<str>,
    load_balancer: Url,
    try_client: reqwest::Client,
    try_permit: Arc<Semaphore>,
    open_permit: Arc<Semaphore>,
    export_permit: Arc<Semaphore>,
    effect_permits: Arc<Semaphore>,
    gate: Arc<permit::Gate>,
    views: poll::Views,
    clock: Arc<said::Clock>,
    closeups: Arc<closeup::CloseUps>,
    token: settings::TokenSource,
    flashes: Arc<flash::Flashes>,
    metrics: metrics::Metrics,
    live_places: Arc<places::Places>,
    shutdown: Shutdown,
}

/// Serves the dashboard until a stop.
///
/// # Errors
/// The listener could not be used, or no HTTP client could be made.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let registry = chassis::metrics::registry("dashboard");
    let metrics = metrics::Metrics::new(&registry);
    let views = watch(&settings, &metrics, true, shutdown.clone())?;
    let live_places = places::Places::new(metrics.live_clients.clone());
    let app = App {
        url: shown(&settings.load_balancer_url).into(),
        load_balancer: settings.load_balancer_url.clone(),
        try_client: try_it::client().map_err(std::io::Error::other)?,
        try_permit: Arc::new(Semaphore::new(1)),
        open_permit: Arc::new(Semaphore::new(1)),
        export_permit: Arc::new(Semaphore::new(1)),
        effect_permits: Arc::new(Semaphore::new(change::EFFECTS_MOST)),
        gate: Arc::new(permit::Gate::new(
            settings.token.clone(),
            settings.read_token.clone(),
            trusted(&settings),
        )),
        views,
        clock: Arc::default(),
        closeups: Arc::new(closeup::CloseUps::new(settings.token.clone())),
        token: settings.token.clone(),
        flashes: Arc::default(),
        metrics,
        live_places,
        shutdown: shutdown.clone(),
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, admin_api = %places(&settings.admin_urls), "the dashboard is up");
    }
    // Ready means that the page is served. That the proxy is away is something the page must
    // show, so it must not take the page away.
    let ready = Arc::new(Vec::new);
    let router = router(app).merge(observe::routes(registry, shutdown.clone(), ready));
    let router = router.layer(middleware::from_fn(protect));
    serve::serve(listener, router, shutdown, settings.stop).await
}

/// Shows the table of backends on standard output until a stop; once if it is no terminal. Nothing
/// is served and nothing is changed.
///
/// # Errors
/// No proxy answers, or standard output is gone.
pub async fn text(settings: Settings, shutdown: Shutdown) -> std::io::Result<()> {
    let metrics = metrics::Metrics::new(&chassis::metrics::registry("dashboard"));
    let views = watch(&settings, &metrics, false, shutdown.clone())?;
    text::run(views, shutdown).await
}

/// Starts asking the proxies.
fn watch(
    settings: &Settings,
    metrics: &metrics::Metrics,
    serves: bool,
    shutdown: Shutdown,
) -> std::io::Result<poll::Views> {
    let origin =
        if settings.admin_url_is_set { admin::Origin::AdminUrl } else { admin::Origin::Derived };
    let first = settings.admin_urls.first().cloned().ok_or(std::io::ErrorKind::InvalidInput)?;
    let plan = poll::Plan {
        urls: settings.admin_urls.clone(),
        api: admin::AdminApi::new(first, origin).map_err(std::io::Error::other)?,
        token: settings.token.clone(),
        interval: settings.interval,
        metrics: metrics.clone(),
        carries: serves,
        remembers: serves,
    };
    Ok(poll::start(plan, shutdown))
}

fn places(urls: &[Url]) -> String {
    urls.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn trusted(settings: &Settings) -> permit::Trusted {
    let mut networks = settings.trusted_clients.clone();
    if settings.trust_gateway {
        let gateways = gateway::addresses();
        if gateways.is_empty() {
            tracing::warn!("DASHBOARD_TRUSTED_CLIENTS: there is no default gateway to trust");
        }
        networks
            .extend(gateways.into_iter().map(|address| IpNet::from(std::net::IpAddr::V4(address))));
    }
    permit::Trusted { local: settings.trust_local, networks }
}

/// A URL without the slash that nobody types.
fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/live", get(live::feed))
        .route("/api/state", get(state))
        .route("/api/export", get(export::file))
        .route(
            open::PATH,
            get(open::show).post(open::open).layer(DefaultBodyLimit::max(open::FILE_MOST)),
        )
        .route(
            "/backends/{pool}/{id}",
            get(detail::show)
                .post(change::change)
                // Some proxies may have been told already when the browser leaves.
                .layer(middleware::from_fn(detach::changes)),
        )
        .route("/backends/{pool}/{id}/effect", get(change::predict))
        .route("/try", post(try_it::send))
        .route("/api/series", get(export::series))
        .route("/backends/{pool}/{id}/change", get(change::ask))
        // All before this tell what is going on; what comes now is needed to sign in.
        .route_layer(middleware::from_fn_with_state(app.clone(), sign_in::guard))
        .route("/login", get(sign_in::show).post(sign_in::sign_in))
        .route("/logout", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::serve))
        .fallback(|| async { page::sorry(StatusCode::NOT_FOUND, "There is no such page.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take this method")
        })
        .layer(DefaultBodyLimit::max(FORM_MOST))
        .with_state(app)
}

#[derive(Deserialize)]
struct IndexQuery {
    result: Option<String>,
    window: Option<String>,
    sort: Option<String>,
    still: Option<String>,
}

impl App {
    fn visitor(&self, peer: SocketAddr, headers: &HeaderMap) -> page::Visitor {
        page::Visitor {
            may_change: self.gate.standing(peer.ip(), headers).is_ok(),
            signed_in: self.gate.is_signed_in(headers),
        }
    }
}

async fn index(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(query): Query<IndexQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(address) = Shown::stay(&uri, &headers) {
        return Redirect::to(&address).into_response();
    }
    let visitor = app.visitor(peer, &headers);
    let shown =
        Shown::parse(query.window.as_deref(), query.sort.as_deref(), query.still.as_deref());
    let looks = page::Looks {
        subject: page::Subject::All,
        window: shown.window,
        may_change: visitor.may_change,
    };
    let view = app.views.newest();
    let frame = page::frame(&view, &app.url, &looks, None);
    let pools = match shown.sort {
        None => frame.pools(),
        Some(sort) => {
            let pools = view.picture.iter().flat_map(|picture| &picture.answer.pools);
            let order: Vec<String> = pools.flat_map(|pool| table::order(pool, sort)).collect();
            frame.pools_sorted(Some(sort), &order)
        }
    };
    let flash = query.result.and_then(|id| app.flashes.find(&id));
    page::main_page(&frame, shown, visitor, &pools, (flash.as_ref(), &app.url)).into_response()
}

/// What the page shows, for scripts.
async fn state(State(app): State<App>) -> Response {
    let view = app.views.newest();
    let events: Vec<&model::Event> = view.events.iter().map(|seen| &seen.event).collect();
    let proxies: Vec<serde_json::Value> = view
        .proxies
        .iter()
        .map(|proxy| {
            json!({
                "name": proxy.name,
                "url": shown(proxy.api.url()),
                "answering": proxy.answers(),
                "error": proxy.fault.as_ref().map(|fault| proxy.api.explain(fault)),
            })
        })
        .collect();
    Json(json!({
        "answering": view.picture.is_some() && view.trouble.is_none(),
        "error": view.trouble.as_ref().map(|trouble| &trouble.explanation),
        "age_seconds": view.picture.as_ref().map(|_| view.age().as_secs_f64()),
        "proxies": proxies,
        "picture": view.picture.as_ref().map(|picture| &picture.answer),
        "events": events,
    }))
    .into_response()
}

/// Headers that keep other sites and other people's caches out.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not no-referrer: with it browsers send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
