//! Files that are part of the binary. Their URLs carry a hash of their content, so that browsers
//! may keep them for ever and still get the new ones after an upgrade.

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use chassis::problem::Problem;
use http::{StatusCode, header};

use crate::hash::hash;

/// The style sheet.
pub(crate) const STYLE: Asset = Asset {
    name: "style.css",
    kind: "text/css; charset=utf-8",
    content: include_str!("../assets/style.css"),
};
/// The script.
pub(crate) const SCRIPT: Asset = Asset {
    name: "page.js",
    kind: "text/javascript; charset=utf-8",
    content: include_str!("../assets/page.js"),
};
/// The icon of the tab.
pub(crate) const FAVICON: Asset = Asset {
    name: "favicon.svg",
    kind: "image/svg+xml",
    content: include_str!("../assets/favicon.svg"),
};

/// A file.
pub(crate) struct Asset {
    name: &'static str,
    kind: &'static str,
    pub(crate) content: &'static str,
}

impl Asset {
    /// Where this version of it is.
    pub(crate) fn url(&self) -> String {
        format!("/assets/{}?v={}", self.name, hash(&[self.content]))
    }
}

/// Answers `GET /assets/{name}`.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    match [STYLE, SCRIPT, FAVICON].into_iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, asset.content).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "there is no such file").into_response(),
    }
}
