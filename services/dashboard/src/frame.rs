//! The moving parts of the page, and what changed between two moments.
//!
//! Each part is an element with an id. A live client is sent only the parts that differ from what
//! it was sent before, down to the table's cells: at 500 backends most of the page stands still,
//! and an element that is not replaced keeps its focus. Rows that come, go or move are told by the
//! new order of ids.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use crate::{address::Shown, charts::Window, columns, sort::Sort};

/// All moving parts at one moment.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Elements by id.
    pub(crate) parts: Vec<(&'static str, String)>,
    /// The tables of backends.
    pub(crate) pools: Vec<PoolPart>,
    /// How far back its charts look; the ways to other orders of the rows lead there, too.
    pub(crate) window: Window,
}

/// One pool's section.
#[derive(Debug)]
pub(crate) struct PoolPart {
    /// The section's id; with `-rows` that of the table's body.
    pub(crate) id: String,
    /// The heading's id and the heading.
    pub(crate) head: (String, String),
    /// The rows in order.
    pub(crate) rows: Vec<Row>,
    /// So many that each is low.
    pub(crate) dense: bool,
    /// From a file.
    pub(crate) is_saved: bool,
}

/// One backend's row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The row's id.
    pub(crate) id: String,
    /// Its cells with their ids.
    pub(crate) cells: Vec<(String, String)>,
}

/// What a live client must change to see a newer frame.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Patch<'a> {
    /// New elements for old ones of the same id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    html: BTreeMap<&'a str, std::borrow::Cow<'a, str>>,
    /// Bodies of tables whose rows came, went or moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<RowChange<'a>>,
}

#[derive(Debug, Serialize)]
struct RowChange<'a> {
    body: String,
    order: Vec<&'a str>,
    added: BTreeMap<&'a str, String>,
}

impl Frame {
    /// One part by its id; empty if there is none.
    pub(crate) fn part(&self, id: &str) -> Markup {
        let part = self.parts.iter().find(|(candidate, _)| *candidate == id);
        PreEscaped(part.map(|(_, html)| html.clone()).unwrap_or_default())
    }

    /// Rows of all tables.
    pub(crate) fn rows(&self) -> usize {
        self.pools.iter().map(|pool| pool.rows.len()).sum()
    }

    /// The element that holds all pools.
    pub(crate) fn pools(&self) -> Markup {
        self.pools_sorted(None, &[])
    }

    /// The same with the rows in the order of these ids.
    pub(crate) fn pools_sorted(&self, sort: Option<Sort>, order: &[String]) -> Markup {
        html! {
            div id="pools" {
                @for pool in &self.pools { (pool.section(sort, order, self.window)) }
            }
        }
    }

    /// What changed since `old`, or everything; nothing if they are the same.
    pub(crate) fn patch_since<'a>(&'a self, old: Option<&'a Self>) -> Option<Patch<'a>> {
        let mut patch = Patch::default();
        let old_parts: BTreeMap<&str, &str> =
            old.into_iter().flat_map(|old| &old.parts).map(|(id, html)| (*id, &**html)).collect();
        for (id, html) in &self.parts {
            if old_parts.get(id) != Some(&&**html) {
                patch.html.insert(id, html.into());
            }
        }
        let ids = |frame: &'a Self| frame.pools.iter().map(|pool| pool.id.as_str());
        match old {
            Some(old) if ids(old).eq(ids(self)) => {
                for (old, new) in old.pools.iter().zip(&self.pools) {
                    new.add_changes(old, &mut patch);
                }
            }
            _ => {
                patch.html.insert("pools", self.pools().into_string().into());
            }
        }
        (!patch.html.is_empty() || !patch.rows.is_empty()).then_some(patch)
    }
}

impl PoolPart {
    fn section(&self, sort: Option<Sort>, order: &[String], window: Window) -> Markup {
        let place: BTreeMap<&str, usize> =
            order.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| place.get(row.id.as_str()));
        html! {
            section.pool.dense[self.dense] id=(self.id) aria-label="Backends" {
                (PreEscaped(&self.head.1))
                table role="table" {
                    // One that stands still leads on to such a page by itself, see `Shown::stay`.
                    (columns::heading(Shown { window, sort, still: false }, self.is_saved))
                    tbody id={ (self.id) "-rows" } role="rowgroup" {
                        @for row in rows { (row.html()) }
                    }
                }
            }
        }
    }

    fn add_changes<'a>(&'a self, old: &'a Self, patch: &mut Patch<'a>) {
        if self.head != old.head {
            patch.html.insert(&self.head.0, (&self.head.1).into());
        }
        let known: BTreeMap<&str, &Row> =
            old.rows.iter().map(|row| (row.id.as_str(), row)).collect();
        for row in &self.rows {
            let Some(before) = known.get(row.id.as_str()) else { continue };
            for (cell, was) in row.cells.iter().zip(&before.cells) {
                if cell.1 != was.1 {
                    patch.html.insert(&cell.0, (&cell.1).into());
                }
            }
        }
        let order: Vec<&str> = self.rows.iter().map(|row| row.id.as_str()).collect();
        if !order.iter().copied().eq(old.rows.iter().map(|row| row.id.as_str())) {
            let known: BTreeSet<&str> = known.into_keys().collect();
            let new = self.rows.iter().filter(|row| !known.contains(row.id.as_str()));
            let added = new.map(|row| (row.id.as_str(), row.html().into_string())).collect();
            patch.rows.push(RowChange { body: format!("{}-rows", self.id), order, added });
        }
    }
}

impl Row {
    fn html(&self) -> Markup {
        html! {
            tr id=(self.id) role="row" {
                @for (_, cell) in &self.cells { (PreEscaped(cell)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rows: &[(&str, &str)]) -> Frame {
        let rows = rows
            .iter()
            .map(|(id, cell)| Row {
                id: (*id).to_owned(),
                cells: vec![(format!("{id}-x"), format!("<td id=\"{id}-x\">{cell}</td>"))],
            })
            .collect();
        let head = ("p-head".to_owned(), "<header id=\"p-head\">".to_owned());
        Frame {
            parts: vec![("headline", "<h1>".to_owned())],
            pools: vec![PoolPart { id: "p".to_owned(), head, rows, dense: false, is_saved: false }],
            window: Window::default(),
        }
    }

    fn patch(old: &Frame, new: &Frame) -> serde_json::Value {
        serde_json::to_value(new.patch_since(Some(old))).unwrap()
    }

    #[test]
    fn a_new_client_gets_everything_and_an_old_one_nothing_new() {
        let one = frame(&[("a", "1")]);
        let all = serde_json::to_value(one.patch_since(None)).unwrap();
        assert_eq!(all["html"]["headline"], "<h1>");
        assert!(all["html"]["pools"].as_str().unwrap().contains("<td id=\"a-x\">1</td>"));
        assert!(one.patch_since(Some(&frame(&[("a", "1")]))).is_none());
    }

    #[test]
    fn only_the_cell_that_changed_is_sent() {
        let sent = patch(&frame(&[("a", "1"), ("b", "1")]), &frame(&[("a", "1"), ("b", "2")]));
        assert_eq!(sent, serde_json::json!({"html": {"b-x": "<td id=\"b-x\">2</td>"}}));
    }

    #[test]
    fn rows_that_come_go_and_move_are_told_by_their_order() {
        let sent = patch(&frame(&[("a", "1"), ("b", "1")]), &frame(&[("c", "1"), ("b", "1")]));
        assert_eq!(sent["rows"][0]["body"], "p-rows");
        assert_eq!(sent["rows"][0]["order"], serde_json::json!(["c", "b"]));
        let added = sent["rows"][0]["added"].as_object().unwrap();
        assert_eq!(added.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(sent.get("html"), None);
    }
}
