//! The table of backends in a terminal, for people on ssh: live, or once where nobody looks.
//!
//! A setting and not a program of its own: it asks the same proxies with the same token, and says
//! the same words. Only plain ANSI is used, in an alternate screen that is gone afterwards.

use std::{
    io::{self, IsTerminal, Write},
    time::SystemTime,
};

use chassis::shutdown::Shutdown;

use crate::{
    clocks::ahead_of,
    headline::Headline,
    model::{Backend, Pool, Traffic},
    numbers,
    poll::{View, Views},
    share,
    words::{self, Tone, number, percent, since},
};

/// Where nothing is known of the width, as of a pipe: no reason to cut.
const WIDTH_UNKNOWN: usize = 200;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What a column shows, how wide it is, and whether it is a number.
struct Column {
    name: &'static str,
    width: usize,
    right: bool,
    value: fn(&Row<'_>) -> String,
}

struct Row<'a> {
    pool: &'a Pool,
    backend: &'a Backend,
    now: SystemTime,
}

/// In the order of worth: a narrow terminal shows the first ones.
const COLUMNS: [Column; 12] = [
    Column { name: "STATE", width: 10, right: false, value: |row| row.backend.show().0.to_owned() },
    Column { name: "BACKEND", width: 22, right: false, value: |row| row.backend.id.clone() },
    Column {
        name: "REQ/S",
        width: 7,
        right: true,
        value: |row| number(row.backend.traffic.requests_per_second),
    },
    Column { name: "ERRORS", width: 7, right: true, value: |row| errors(&row.backend.traffic) },
    Column {
        name: "P99 MS",
        width: 7,
        right: true,
        value: |row| milliseconds(row.backend.traffic.p99_ms),
    },
    Column {
        name: "FLIGHT",
        width: 6,
        right: true,
        value: |row| row.backend.in_flight.to_string(),
    },
    Column { name: "SHARE", width: 5, right: true, value: share_of },
    Column {
        name: "P50 MS",
        width: 7,
        right: true,
        value: |row| milliseconds(row.backend.traffic.p50_ms),
    },
    Column {
        name: "P95 MS",
        width: 7,
        right: true,
        value: |row| milliseconds(row.backend.traffic.p95_ms),
    },
    Column { name: "WEIGHT", width: 6, right: true, value: |row| row.backend.weight.to_string() },
    Column { name: "HEALTH", width: 18, right: false, value: health },
    Column { name: "WHY", width: 60, right: false, value: why },
];

/// Shows the table until a stop; once if standard output is no terminal.
///
/// # Errors
/// Nobody answers, or the terminal is gone.
pub(crate) async fn run(views: Views, shutdown: Shutdown) -> io::Result<()> {
    let is_live = io::stdout().is_terminal();
    let color = is_live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut newest = views.subscribe();
    if !is_live {
        let view = loop {
            newest.changed().await.map_err(io::Error::other)?;
            let view = newest.borrow_and_update().clone();
            if view.picture.is_some() || view.trouble.is_some() {
                break view;
            }
        };
        print(&render(&view, WIDTH_UNKNOWN, usize::MAX, false).join("\n"), "\n")?;
        return match &view.trouble {
            Some(trouble) => Err(io::Error::other(trouble.explanation.clone())),
            None => Ok(()),
        };
    }
    print(ENTER, "")?;
    let result = loop {
        let view = newest.borrow_and_update().clone();
        let size = terminal_size::terminal_size();
        let (width, height) =
            size.map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()));
        let lines: Vec<String> =
            render(&view, width, height, color).into_iter().map(|line| line + "\x1b[K").collect();
        if let Err(error) = print(&format!("\x1b[H{}", lines.join("\r\n")), "\x1b[J") {
            break Err(error);
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { break Ok(()) },
            _ = shutdown.requested() => break Ok(()),
        }
    };
    print(LEAVE, "")?;
    result
}

fn print(text: &str, end: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(end.as_bytes())?;
    out.flush()
}

/// The lines of a screen of this size.
fn render(view: &View, width: usize, height: usize, color: bool) -> Vec<String> {
    let headline = Headline::of(view);
    let mut lines = vec![paint(&cut(&headline.sentence, width), headline.tone, color)];
    let answer = view.picture.as_ref().map(|picture| &picture.answer);
    if let Some(answer) = answer {
        let traffic = answer.traffic();
        let proxies = view.proxies.len();
        let summary = format!(
            "{} requests/s, {} errors, p50 {} p95 {} p99 {} ms{}",
            number(traffic.requests_per_second),
            errors(&traffic),
            milliseconds(traffic.p50_ms),
            milliseconds(traffic.p95_ms),
            milliseconds(traffic.p99_ms),
            if proxies > 1 {
                format!(", {} of {proxies} proxies answer", view.answering().count())
            } else {
                String::new()
            },
        );
        lines.push(cut(&summary, width));
    }
    if let Some(trouble) = &view.trouble {
        lines.push(cut(&trouble.explanation, width));
    }
    let pools = answer.map(|answer| &answer.pools[..]).unwrap_or_default();
    let now = view.now();
    let mut rows: Vec<Row<'_>> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| Row { pool, backend, now }))
        .collect();
    // What wants attention must not be below the edge of the screen.
    rows.sort_by_key(|row| std::cmp::Reverse(row.backend.show().1.rank()));
    let columns = fitting(width);
    lines.push(String::new());
    lines.push(line(columns, width, |column| column.name.to_owned()));
    let room = height.saturating_sub(lines.len() + 1);
    let hidden = rows.len().saturating_sub(room);
    for row in rows.iter().take(room) {
        let text = line(columns, width, |column| (column.value)(row));
        lines.push(paint(&text, row.backend.show().1, color));
    }
    if hidden > 0 {
        lines.push(cut(&format!("… and {hidden} more"), width));
    }
    lines
}

/// As many columns as fit; two always.
fn fitting(width: usize) -> &'static [Column] {
    let mut used = 0;
    let fits = COLUMNS.iter().take_while(|column| {
        used += column.width + 2;
        used <= width + 2
    });
    &COLUMNS[..fits.count().max(2)]
}

fn line(columns: &[Column], width: usize, value: impl Fn(&Column) -> String) -> String {
    let cells = columns.iter().map(|column| {
        let text = cut(&value(column), column.width);
        let pad = " ".repeat(column.width - text.chars().count());
        if column.right { pad + &text } else { text + &pad }
    });
    cut(cells.collect::<Vec<_>>().join("  ").trim_end(), width)
}

/// One line of so many characters. Names come from elsewhere: what would move the cursor or ring
/// the bell is not shown.
fn cut(text: &str, width: usize) -> String {
    let clean: Vec<char> =
        text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if clean.len() <= width {
        return clean.into_iter().collect();
    }
    clean.into_iter().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn paint(text: &str, tone: Tone, color: bool) -> String {
    let code = match tone {
        Tone::Good => return text.to_owned(),
        Tone::Busy => 33,
        Tone::Idle => 36,
        Tone::Bad => 31,
    };
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// Of no requests, no share fails.
fn errors(traffic: &Traffic) -> String {
    if traffic.requests_per_second > 0.0 { percent(traffic.error_share) } else { "-".to_owned() }
}

fn share_of(row: &Row<'_>) -> String {
    share::of(row.pool, row.backend).map_or_else(|| "-".to_owned(), share::text)
}

fn health(row: &Row<'_>) -> String {
    let now = ahead_of(row.now, row.backend.ahead.health);
    let since = since(row.backend.health_since.as_deref(), now);
    let since = since.map(|since| format!(" for {since}")).unwrap_or_default();
    format!("{}{since}", row.backend.health.show().0)
}

/// Who wanted it, and why.
fn said(actor: &Option<String>, reason: &Option<String>) -> String {
    let by = actor.as_ref().map(|actor| format!(" by {actor}"));
    let why = reason.as_ref().map(|reason| format!(": {reason}"));
    by.unwrap_or_default() + &why.unwrap_or_default()
}

/// Until when, and what comes `then`.
fn until(end: &Option<String>, then: &str) -> String {
    let until = end.as_ref().map(|end| format!(" (until {} UTC{then})", words::clock(end)));
    until.unwrap_or_default()
}

/// What an operator wants of it, as one line; nothing if it is as configured.
pub(crate) fn set(backend: &Backend) -> Option<String> {
    let state = backend.is_overridden().then(|| {
        let then = backend.admin_reverts_to.as_ref();
        let then = then.map(|then| format!(", then {}", then.state.word().to_lowercase()));
        let until = until(&backend.admin_expires_at, &then.unwrap_or_default());
        let said = said(&backend.admin_actor, &backend.admin_reason);
        format!("{}{said}{until}", backend.admin.word())
    });
    let weight = backend.is_weighted().then(|| {
        let said = said(&backend.weight_actor, &backend.weight_reason);
        let until = until(&backend.weight_expires_at, "");
        format!("weight {}{said}{until}", backend.weight)
    });
    let limit = backend.is_limited().then(|| {
        let said = said(&backend.max_in_flight_actor, &backend.max_in_flight_reason);
        let until = until(&backend.max_in_flight_expires_at, "");
        format!("{}{said}{until}", numbers::limit_words(backend.max_in_flight))
    });
    let set: Vec<String> = [state, weight, limit].into_iter().flatten().collect();
    (!set.is_empty()).then(|| set.join("; "))
}

fn why(row: &Row<'_>) -> String {
    let backend = row.backend;
    if let Some(set) = set(backend) {
        return set;
    }
    let dissent: Vec<String> = backend
        .opinions
        .iter()
        .filter(|one| !one.serves())
        .map(|one| format!("{}: {}", one.replica, one.effective.show().0.to_lowercase()))
        .collect();
    if dissent.is_empty() { backend.health_reason.clone() } else { dissent.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_cannot_command_the_terminal() {
        assert_eq!(cut("a\x1b[2Jb\u{7}", 20), "a?[2Jb?");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn a_narrow_terminal_shows_the_columns_that_matter_most() {
        assert_eq!(fitting(20).len(), 2);
        for width in [40, 80, 120, 200] {
            let names = line(fitting(width), width, |column| column.name.to_owned());
            assert!(names.chars().count() <= width, "{names}");
        }
        assert!(fitting(80).len() >= 7 && fitting(WIDTH_UNKNOWN).len() == COLUMNS.len());
    }

    #[test]
    fn an_idle_backend_has_no_share_of_errors() {
        let told = |rate: f64, share: f64| {
            let traffic =
                Traffic { requests_per_second: rate, error_share: share, ..Traffic::default() };
            errors(&traffic)
        };
        assert_eq!(told(0.0, 0.0), "-");
        assert_eq!(told(2.0, 0.0), "0%");
        assert_eq!(told(2.0, 0.25), "25%");
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        assert_eq!(paint("Down", Tone::Bad, false), "Down");
        assert_eq!(paint("Down", Tone::Bad, true), "\x1b[31mDown\x1b[0m");
    }
}
