//! The page's icons: each state has its own shape, so that colour is never the only sign.

use maud::{Markup, html};

/// An icon of 16 × 16 in the colour of the text. Decoration: a word is always beside it.
pub(crate) fn icon(name: &str) -> Markup {
    let path = match name {
        "check" => "M3.5 8.5l3 3 6-7",
        "cross" => "M4 4l8 8M12 4l-8 8",
        "clock" => "M8 2a6 6 0 100 12A6 6 0 008 2zM8 5v3.2l2.2 1.6",
        "drain" => "M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10",
        "pause" => "M5.5 3.5v9M10.5 3.5v9",
        "stop" => "M8 2a6 6 0 100 12A6 6 0 008 2zM4 12l8-8",
        "eject" => "M3.5 9L8 3.5 12.5 9zM3.5 12.5h9",
        "low" => "M2 4.5l4.5 4.5 2.5-2.500L13.500 11M13.500 7.500V11H10",
        "question" => {
            "M5.500 6a2.500 2.500 0 112.900 2.500c-.300.100-.400.400-.400.800v.500M8 12.600v.100"
        }
        "skip" => "M2.500 11c1.500-5.500 7.500-6.500 10-1.500M13 5v4.500H8.500",
        "split" => "M8 14V9M8 9L3.500 4.500M8 9l4.500-4.500M3.500 7.500v-3h3M12.500 7.500v-3h-3",
        "warn" => "M8 2.2L14.5 13.5h-13zM8 6.5v3M8 11.6v.1",
        "health" => "M1.5 8h3l2-4.5 3 9 2-4.5h3",
        "person" => {
            "M8 2.5a2.6 2.6 0 100 5.2 2.6 2.6 0 000-5.2zM3 13.8c.5-2.7 2.5-4 5-4s4.5 1.3 5 4"
        }
        "compass" => "M8 2a6 6 0 100 12A6 6 0 008 2zM10.5 5.5L9 9l-3.5 1.5L7 7z",
        "proxy" => "M2 8h4M10 4h4M10 12h4M6 8l4-4M6 8l4 4",
        _ => "M8 6v4M8 4v.1M8 12v.1",
    };
    html! {
        svg.icon viewBox="0 0 16 16" aria-hidden="true" { path d=(path) {} }
    }
}

/// The mark: a hull on a level water line.
pub(crate) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 32 32" aria-hidden="true" {
            path.hull d="M5 15h22c-.6 4.6-4.4 8-9.2 8h-3.6C9.400 23 5.600 19.600 5 15z" {}
            path.keel d="M14 23h4l-.8 5.500h-2.400z" {}
            path.mast d="M16 4v11M16 5.500l6.500 7H16" {}
        }
    }
}
