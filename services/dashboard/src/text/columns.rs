//! Which columns there is room for, and how wide they are.
//!
//! An id is what tells one row from another: it is whole where there is room. Why a backend is as it is
//! comes before most numbers, and has the rest of the line.

use std::{cmp::Reverse, collections::HashSet, time::SystemTime};

use super::{cells, clean, cut};
use crate::{
    model::{Backend, Pool},
    words::number,
};

/// Between two columns.
const GAP: usize = 2;
/// Longer ids are cut where there is no room for more.
const ID_LEAST: usize = 22;
/// Columns from here on are left out for an id to be whole, and for more of why.
const OF_LESS_WORTH: u8 = 7;
/// The least room for why, and how much more it has before a column of less worth is shown.
const WHY_LEAST: usize = 24;
const WHY_MORE: usize = 16;

/// What a column shows, and whether it is a number.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// At least; the last one has the rest of the line.
    width: usize,
    right: bool,
    /// A narrow terminal shows those of the lowest number.
    worth: u8,
    pub(super) value: fn(&Row<'_>) -> String,
}

pub(super) struct Row<'a> {
    pub(super) pool: &'a Pool,
    pub(super) backend: &'a Backend,
    /// Cut if there is no room for it.
    id: String,
    pub(super) now: SystemTime,
}

impl Column {
    const fn text(
        name: &'static str,
        width: usize,
        worth: u8,
        value: fn(&Row<'_>) -> String,
    ) -> Self {
        Self { name, width, right: false, worth, value }
    }

    const fn number(
        name: &'static str,
        width: usize,
        worth: u8,
        value: fn(&Row<'_>) -> String,
    ) -> Self {
        Self { name, width, right: true, worth, value }
    }
}

const COLUMNS: [Column; 13] = [
    Column::text("STATE", 10, 0, |row| row.backend.show().0.to_owned()),
    Column::text("BACKEND", 7, 1, |row| row.id.clone()),
    Column::number("REQ/S", 7, 2, |row| number(row.backend.traffic.requests_per_second)),
    Column::number("ERRORS", 7, 3, |row| cells::errors(&row.backend.traffic)),
    Column::number("P99 MS", 7, 5, |row| cells::milliseconds(row.backend.traffic.p99_ms)),
    Column::number("FLIGHT", 6, 6, |row| row.backend.in_flight.to_string()),
    Column::number("SHARE", 5, 7, cells::share_of),
    Column::number("P50 MS", 7, 8, |row| cells::milliseconds(row.backend.traffic.p50_ms)),
    Column::number("P95 MS", 7, 9, |row| cells::milliseconds(row.backend.traffic.p95_ms)),
    Column::number("WEIGHT", 6, 10, |row| row.backend.weight.to_string()),
    Column::text("HEALTH", 20, 11, cells::health),
    Column::text("LAST PROBE", 17, 12, cells::last_probe),
    Column::text("WHY", WHY_LEAST, 4, cells::why),
];

/// A column as wide as it is on a screen.
pub(super) type Fitted = (&'static Column, usize);

/// The columns that fit, and a row for each backend.
pub(super) fn layout(pools: &[Pool], now: SystemTime, width: usize) -> (Vec<Fitted>, Vec<Row<'_>>) {
    let backends =
        || pools.iter().flat_map(|pool| pool.backends.iter().map(move |one| (pool, one)));
    let ids: Vec<Vec<char>> = backends().map(|(_, backend)| clean(&backend.id)).collect();
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
    let columns = fitting(longest, width);
    let room = columns.iter().find(|(column, _)| column.name == "BACKEND");
    let ids = distinct(&ids, room.map_or(longest, |(_, room)| *room));
    let rows = backends().zip(ids).map(|((pool, backend), id)| Row { pool, backend, id, now });
    (columns, rows.collect())
}

/// As many columns as fit beside ids of this length; two always.
fn fitting(id: usize, width: usize) -> Vec<Fitted> {
    let beside =
        |one: &&Column| one.worth < OF_LESS_WORTH && !["BACKEND", "WHY"].contains(&one.name);
    let beside: usize = COLUMNS.iter().filter(beside).map(|one| one.width + GAP).sum();
    let id = id.min(width.saturating_sub(beside).max(ID_LEAST));
    let mut by_worth: Vec<(usize, &Column)> = COLUMNS.iter().enumerate().collect();
    by_worth.sort_by_key(|(_, column)| column.worth);
    let mut used = 0;
    let mut shown: Vec<(usize, Fitted)> = Vec::new();
    for (place, column) in by_worth {
        let own = if column.name == "BACKEND" { id.max(column.width) } else { column.width };
        let more = if column.worth < OF_LESS_WORTH { 0 } else { WHY_MORE };
        if shown.len() < 2 || used + own + more <= width {
            used += own + GAP;
            shown.push((place, (column, own)));
        }
    }
    shown.sort_by_key(|(place, _)| *place);
    if let Some((_, (_, room))) = shown.last_mut() {
        *room += width.saturating_sub(used - GAP);
    }
    shown.into_iter().map(|(_, fitted)| fitted).collect()
}

pub(super) fn line(columns: &[Fitted], width: usize, value: impl Fn(&Column) -> String) -> String {
    let last = columns.len() - 1;
    let cells = columns.iter().enumerate().map(|(index, (column, room))| {
        let text = cut(&value(column), *room);
        // What ends the line needs no spaces after it, and a number stands below its heading.
        let room = if index == last { column.width.max(text.chars().count()) } else { *room };
        let pad = " ".repeat(room - text.chars().count());
        if column.right { pad + &text } else { text + &pad }
    });
    cut(cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end(), width)
}

/// Ids in so many characters: those that are longer are cut in the middle, or wherever most of them
/// stay apart. Addresses of one network begin alike, and names of one domain end alike.
fn distinct(ids: &[Vec<char>], room: usize) -> Vec<String> {
    let cut_at = |head: usize| -> Vec<String> {
        let cut = |id: &Vec<char>| -> String {
            if id.len() <= room {
                return id.iter().collect();
            }
            let tail = id.len() - (room - 1 - head);
            id[..head].iter().chain(&['…']).chain(&id[tail..]).collect()
        };
        ids.iter().map(cut).collect()
    };
    let middle = room.saturating_sub(1) / 2;
    if ids.iter().all(|id| id.len() <= room) {
        return cut_at(middle);
    }
    let apart = |head: usize| cut_at(head).into_iter().collect::<HashSet<_>>().len();
    let best = (0..room).min_by_key(|head| (Reverse(apart(*head)), head.abs_diff(middle)));
    cut_at(best.unwrap_or(middle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::WIDTH_UNKNOWN;

    #[test]
    fn a_narrow_terminal_shows_the_columns_that_matter_most() {
        let names = |id: usize, width: usize| -> Vec<&str> {
            fitting(id, width).iter().map(|(column, _)| column.name).collect()
        };
        assert_eq!(names(22, 20), ["STATE", "BACKEND"]);
        let some = ["STATE", "BACKEND", "REQ/S", "ERRORS", "P99 MS", "FLIGHT"];
        assert_eq!(names(29, 80), some, "a long id takes the room of what matters less");
        assert_eq!(names(60, 80), some, "but no more");
        let why = ["STATE", "BACKEND", "REQ/S", "ERRORS", "P99 MS", "WHY"];
        assert_eq!(names(14, 80), why, "why is worth more than how many are in flight");
        assert_eq!(names(14, 120), [&some[..], &["SHARE", "P50 MS", "WHY"]].concat());
        assert_eq!(names(29, 200), COLUMNS.each_ref().map(|column| column.name));
        assert_eq!(names(29, WIDTH_UNKNOWN).len(), COLUMNS.len());
        for (id, width) in [(3, 40), (29, 80), (60, 80), (14, 120), (60, 200)] {
            let columns = fitting(id, width);
            let names = line(&columns, width, |column| column.name.to_owned());
            assert!(names.chars().count() <= width, "{names}");
            let full = line(&columns, width, |_| "x".repeat(300));
            assert_eq!(full.chars().count(), width, "{full}");
        }
    }

    #[test]
    fn ids_are_whole_where_there_is_room_and_else_stay_apart() {
        let shown = |ids: &[&str], room: usize| {
            distinct(&ids.iter().map(|id| clean(id)).collect::<Vec<_>>(), room)
        };
        let network = ["[2001:db8:42:17:0:1::a1]:8080", "[2001:db8:42:17:0:1::a2]:8080"];
        assert_eq!(shown(&network, 29), network);
        assert_eq!(shown(&network, 22), ["[2001:db8:…1::a1]:8080", "[2001:db8:…1::a2]:8080"]);
        let domain =
            ["shop-1.namespace.svc.cluster.local:80", "shop-2.namespace.svc.cluster.local:80"];
        assert_eq!(shown(&domain, 22), ["shop-1.nam…er.local:80", "shop-2.nam…er.local:80"]);
        // In the middle these would look the same.
        let late = ["shop-1.eu.example:80", "shop-2.eu.example:80"];
        assert_eq!(shown(&late, 9), ["shop-1…80", "shop-2…80"]);
        assert_eq!(shown(&["a:1", "b:1"], 22), ["a:1", "b:1"]);
        assert_eq!(shown(&["abcdef"], 1), ["…"]);
    }
}
