//! The table's columns, and its heading: what sorts the rows.
//!
//! Where the table is one of cards, the heading is a line of words above them, so that they can
//! be sorted on any screen. A link sorts without JavaScript, the script sorts in place. The page
//! of a file has no address to lead to: there a button sends the file again.

use maud::{Markup, html};

use crate::{address::Shown, saved, sort::Sort};

/// Heading, the classes of the column's cells, and the name to sort by.
pub(crate) const COLUMNS: [(&str, &str, &str); 13] = [
    ("Backend", "name", "name"),
    ("State", "state", "state"),
    ("Health", "health", "health"),
    ("Last probe", "probe", "probe"),
    ("Requests/s", "rate", "rate"),
    ("Share", "share", "share"),
    ("In flight", "num flight", "flight"),
    ("Errors", "num errors", "errors"),
    ("p50 ms", "num p50", "p50"),
    ("p95 ms", "num p95", "p95"),
    ("p99 ms", "num p99", "p99"),
    ("Weight", "num weight", "weight"),
    ("Operator", "operator", "operator"),
];

/// The heading of a table, of one in a file if it `is_saved`.
pub(crate) fn heading(shown: Shown, is_saved: bool) -> Markup {
    // The roles are implied by the elements until the style sheet turns rows into cards.
    html! {
        thead role="rowgroup" {
            tr role="row" {
                @for (name, class, column) in COLUMNS {
                    @let chosen = shown.sort.filter(|sort| sort.column == column);
                    @let order = chosen.map(|sort| if sort.down { "descending" } else { "ascending" });
                    @let next = Sort::next(shown.sort, column);
                    th scope="col" role="columnheader" class=(class) aria-sort=[order] {
                        @if is_saved {
                            button.link form=(saved::FORM) name="sort" value=(next.text()) data-sort=(column) { (name) }
                        } @else {
                            @let way = Shown { sort: Some(next), ..shown };
                            a href=(way.address("/")) data-sort=(column) { (name) }
                        }
                    }
                }
            }
        }
    }
}
