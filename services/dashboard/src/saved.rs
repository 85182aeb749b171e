//! The pages of an hour that was saved as a file: all of it, and each backend.
//!
//! Nothing is kept here of the file that somebody opens. So the page carries it, and whatever
//! leads on, to a backend or to another order, is a button that sends it again. The values under
//! the pointer are in the page, too: there is nobody to ask for them.

use maud::{Markup, PreEscaped, html};

use crate::{
    charts::Window,
    detail, events, export,
    frame::Frame,
    headline,
    history::Series,
    icons::icon,
    model::{Backend, Pool},
    open,
    page::{self, Looks, Subject},
    panels::{self, Charts},
    poll::View,
    sort::Sort,
    table,
};

/// The id of the form that sends the file again.
pub(crate) const FORM: &str = "again";

/// Where the file comes on the page, which is made without it. Nothing that a file says can look so:
/// there it would be escaped.
pub(crate) const FILE: &str = "<!--file-->";

/// A file as it was opened.
pub(crate) struct Saved<'a> {
    pub(crate) view: View,
    /// When it was saved.
    pub(crate) at: &'a str,
}

impl Saved<'_> {
    fn pools(&self) -> &[Pool] {
        self.view.picture.as_ref().map(|picture| &picture.answer.pools[..]).unwrap_or_default()
    }

    /// The backend whose row has this id.
    pub(crate) fn backend(&self, row: &str) -> Option<(&Pool, &Backend)> {
        let all = self
            .pools()
            .iter()
            .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
        all.into_iter().find(|(pool, backend)| table::row_id(pool, backend) == row)
    }
}

/// All of a file, in this order.
pub(crate) fn main_page(saved: &Saved<'_>, sort: Option<Sort>) -> Markup {
    let looks = Looks { subject: Subject::All, window: Window::Hour, may_change: false };
    let frame = page::frame(&saved.view, "a file", &looks, None);
    let order: Vec<String> = sort
        .iter()
        .flat_map(|sort| saved.pools().iter().flat_map(|pool| table::order(pool, *sort)))
        .collect();
    let totals = saved.view.totals(Window::Hour);
    let body = html! {
        div.hero { (frame.part("headline")) (frame.part("subline")) }
        (notice(saved))
        (frame.part("freshness"))
        section.traffic aria-label="Traffic" { (frame.part("map")) (frame.part("map-tiles")) }
        (page::panel_row(&frame))
        (page::table_and_filter(&frame, &frame.pools_sorted(sort, &order)))
        (frame.part("proxies"))
        (page::logs(&frame))
    };
    shell("A saved hour · Evenkeel", &totals, body)
}

/// One backend of a file, with its own hour.
pub(crate) fn backend_page(
    saved: &Saved<'_>,
    pool: &Pool,
    backend: &Backend,
    hour: &Series,
) -> Markup {
    let view = &saved.view;
    let marks = events::marks(view, Some(&backend.id));
    let window = Window::Hour;
    let charts = Charts::new(&backend.traffic, backend.in_flight, hour, window, &marks);
    let part = |id, markup: Markup| (id, markup.into_string());
    let frame = Frame {
        parts: vec![
            part("panel-rate", charts.rate()),
            part("panel-errors", charts.errors()),
            part("panel-latency", charts.latency()),
            part("panel-flight", charts.flight()),
        ],
        pools: Vec::new(),
        window,
    };
    let body = html! {
        p.crumbs { button.link form=(FORM) name="backend" value="" { "← All backends of the file" } }
        div.hero { (detail::title(backend)) (detail::subline(pool, backend)) }
        (notice(saved))
        div id="freshness" hidden data-stale=(view.trouble.is_some()) {}
        (page::panel_row(&frame))
        div.columns {
            section.card aria-label="Facts" { h2 { "Facts" } (detail::facts(view, pool, backend)) }
            section.events aria-label="Events" {
                header { h2 { "Events" } p.meta { span { "times in UTC" } } }
                (events::list(view, Some(&backend.id)))
            }
        }
        (detail::opinions(backend, false, saved.view.now()))
    };
    shell(&format!("{} in a saved hour · Evenkeel", backend.id), hour, body)
}

fn notice(saved: &Saved<'_>) -> Markup {
    html! {
        div.kept id="notice" {
            div.banner.busy {
                (icon("clock"))
                p { "This is from a file that was saved at " time datetime=(saved.at) { (saved.at) } ". Nothing on it is live, and nothing can be changed. " a href="/" { "Back to what is now" } }
            }
            (headline::banners(&saved.view))
        }
    }
}

fn shell(title: &str, series: &Series, body: Markup) -> Markup {
    let values = export::columns(&series.last(Window::Hour.seconds(), panels::SLOTS)).to_string();
    // In a script's element nothing is escaped but by JSON's own means; it must not end it.
    let values = values.replace('<', "\\u003c");
    // The form comes first: before it is there, no button could send it.
    let body = html! {
        form id=(FORM) method="post" action=(open::PATH) enctype="multipart/form-data" hidden {
            textarea name="file" readonly { (PreEscaped(FILE)) }
        }
        main id="main" tabindex="-1" { (body) }
        script type="application/json" id="series" { (PreEscaped(values)) }
    };
    page::shell(title, html! {}, body, None, None)
}
