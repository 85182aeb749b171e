//! The table of backends in a terminal, for people on ssh: live, or once where nobody looks.
//!
//! A setting and not a program of its own: it asks the same proxies with the same token, and says
//! the same words. Only plain ANSI is used, in an alternate screen that is gone afterwards.

mod cells;
mod columns;

use std::{
    cmp::Reverse,
    io::{self, IsTerminal, Write},
    time::SystemTime,
};

use chassis::shutdown::Shutdown;

use self::{
    cells::{errors, milliseconds},
    columns::{layout, line},
};
use crate::{
    headline::Headline,
    model::Backend,
    numbers,
    poll::{View, Views},
    words::{self, Tone, number},
};

/// Where nothing is known of the width, as of a pipe: no reason to cut.
const WIDTH_UNKNOWN: usize = usize::MAX;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

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
    // Its end tells of the proxies; but most of a screen is for the table.
    let lines_most = (height / 3).max(1);
    let sentence = wrap(&headline.sentence, width, lines_most);
    let mut lines: Vec<String> =
        sentence.iter().map(|line| paint(line, headline.tone, color)).collect();
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
        lines.extend(wrap(&trouble.explanation, width, lines_most));
    }
    let pools = answer.map(|answer| &answer.pools[..]).unwrap_or_default();
    let (columns, mut rows) = layout(pools, view.now(), width);
    // What wants attention must not be below the edge of the screen.
    rows.sort_by_key(|row| Reverse(row.backend.show().1.rank()));
    lines.push(String::new());
    lines.push(line(&columns, width, |column| column.name.to_owned()));
    let room = height.saturating_sub(lines.len() + 1);
    let hidden = rows.len().saturating_sub(room);
    for row in rows.iter().take(room) {
        let text = line(&columns, width, |column| (column.value)(row));
        lines.push(paint(&text, row.backend.show().1, color));
    }
    if hidden > 0 {
        lines.push(cut(&format!("… and {hidden} more"), width));
    }
    lines
}

/// At most so many lines of so many characters, broken between words; the last one is cut.
fn wrap(text: &str, width: usize, lines_most: usize) -> Vec<String> {
    let text = clean(text);
    let mut rest = &text[..];
    let mut lines = Vec::new();
    while rest.len() > width && lines.len() + 1 < lines_most {
        let end = rest[..=width].iter().rposition(|letter| *letter == ' ');
        let end = end.filter(|end| *end > 0).unwrap_or(width.max(1));
        lines.push(rest[..end].iter().collect());
        rest = &rest[end..];
        rest = rest.strip_prefix(&[' ']).unwrap_or(rest);
    }
    lines.push(cut(&rest.iter().collect::<String>(), width));
    lines
}

/// Names come from elsewhere: what would move the cursor or ring the bell is not shown.
fn clean(text: &str) -> Vec<char> {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// One line of so many characters.
fn cut(text: &str, width: usize) -> String {
    let clean = clean(text);
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

/// Who wanted it, and why.
fn said(actor: &Option<String>, reason: &Option<String>) -> String {
    let by = actor.as_ref().map(|actor| format!(" by {actor}"));
    let why = reason.as_ref().map(|reason| format!(": {reason}"));
    by.unwrap_or_default() + &why.unwrap_or_default()
}

/// Until when, and what comes `then`.
fn until(end: &Option<String>, then: &str) -> String {
    let until = end
        .as_ref()
        .map(|end| format!(" (until {} UTC{then})", words::moment(end, SystemTime::now())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_cannot_command_the_terminal() {
        assert_eq!(cut("a\x1b[2Jb\u{7}", 20), "a?[2Jb?");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn the_first_line_is_told_to_its_end() {
        let sentence = "All 3 backends serve, but 1 of 2 proxies does not answer";
        assert_eq!(wrap(sentence, 200, 5), [sentence]);
        let lines = ["All 3 backends serve, but", "1 of 2 proxies does not", "answer"];
        assert_eq!(wrap(sentence, 25, 5), lines);
        assert_eq!(
            wrap(sentence, 25, 2),
            ["All 3 backends serve, but", "1 of 2 proxies does not …"]
        );
        assert_eq!(wrap("abcdefgh ij", 4, 5), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\u{7}", 4, 5), ["a?"]);
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        assert_eq!(paint("Down", Tone::Bad, false), "Down");
        assert_eq!(paint("Down", Tone::Bad, true), "\x1b[31mDown\x1b[0m");
    }
}
