//! The command line, read to its end although something in it is wrong.
//!
//! clap stops at the first flag that it does not know, and the mistakes in all other values would
//! come to light one start at a time. So whatever it stumbles over is noted and taken out, and the
//! rest is read again.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::settings::Mistakes;

/// Reads the arguments, the program's name first, and notes what is wrong with them.
///
/// # Errors
/// What clap says of `--help` and `--version`, of a subcommand's value that cannot be used, and of
/// what cannot be pinned down.
pub(crate) fn parse(
    command: &clap::Command,
    args: impl IntoIterator<Item = OsString>,
    mistakes: &mut Mistakes,
) -> Result<clap::ArgMatches, clap::Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    loop {
        let error = match command.clone().try_get_matches_from(&args) {
            Ok(matches) => return Ok(matches),
            Err(error) => error,
        };
        let says_it_best = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::ValueValidation
        );
        if says_it_best {
            return Err(error);
        }
        let Some(found) = stumbled_over(&error).and_then(|text| find(&args, &text)) else {
            return Err(error);
        };
        // A value that follows belongs to it, unless it cannot have any.
        let next = args.get(found.place + 1).filter(|next| !starts_with_dash(next));
        let is_alone = found.value.is_some() || !found.name.starts_with('-');
        let value = next.filter(|_| !is_alone).map(|next| next.to_string_lossy().into_owned());
        let taken = 1 + usize::from(value.is_some());
        let value = found.value.or(value).unwrap_or_default();
        let is_subcommand = |one: &&clap::Command| {
            args[..found.place].iter().skip(1).any(|arg| OsStr::new(one.get_name()) == arg)
        };
        let asked = command.get_subcommands().find(is_subcommand).unwrap_or(command);
        mistakes.note_flag(&found.name, &value, expected(asked, &error, &found.name));
        args.drain(found.place..found.place + taken);
    }
}

struct Found {
    place: usize,
    name: String,
    /// What stands behind its equals sign.
    value: Option<String>,
}

/// The argument that clap could not use, as it calls it.
fn stumbled_over(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    };
    // It shows the kind of the value too: `--port <PORT>`.
    let text = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand))?;
    text.split_whitespace().next().map(str::to_owned)
}

/// Where it is. The last one: of a flag that is there twice, the second is one too many.
fn find(args: &[OsString], name: &str) -> Option<Found> {
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    args.iter().enumerate().skip(1).rev().find_map(|(place, arg)| {
        let arg = arg.to_string_lossy();
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.to_owned())),
            _ => (&*arg, None),
        };
        // Of short flags, which may be joined, clap names the one.
        let is_short = name.len() == 2 && !flag.starts_with("--") && flag.starts_with('-');
        let is_it = flag == name || is_short && flag.contains(&name[1..]);
        is_it.then(|| Found { place, name: flag.to_owned(), value })
    })
}

fn expected(command: &clap::Command, error: &clap::Error, name: &str) -> String {
    match error.kind() {
        ErrorKind::InvalidValue => "a value after it".to_owned(),
        ErrorKind::ArgumentConflict => "it once".to_owned(),
        ErrorKind::TooManyValues => "no value".to_owned(),
        _ => {
            let flags = command.get_arguments().filter_map(clap::Arg::get_long);
            let near = |flag: &&str| strsim::jaro_winkler(name.trim_start_matches('-'), flag);
            let nearest = flags.max_by(|a, b| near(a).total_cmp(&near(b)));
            let such = nearest.map(|flag| format!(", such as --{flag}")).unwrap_or_default();
            format!("a flag of this program{such} (all are in --help)")
        }
    }
}

fn starts_with_dash(text: &OsStr) -> bool {
    text.as_encoded_bytes().starts_with(b"-")
}
