//! Settings by environment variable and by flag, from one struct per service.
//!
//! A service declares a raw struct of strings whose field names are the environment variables in
//! lower case (`proxy_port` is `PROXY_PORT` and `--port`), with the default and the help text on
//! the field. [`load`] merges flag over environment over default, lets envy fill the raw struct,
//! and [`Settings::parse`] turns it into the valid type that the program uses. Everything is a
//! string up to there so that *all* mistakes can be told at once: serde alone stops at the first.

use std::{collections::BTreeMap, ffi::OsString, fmt, time::Duration};

use clap::parser::ValueSource;
use serde::de::DeserializeOwned;
use url::Url;

use crate::{command_line, telemetry::LogSettings, units};

/// What a service must say about its settings to be read by [`load`].
pub trait Settings: Sized {
    /// The binary's name, such as `evenkeel-proxy`.
    const PROGRAM: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Prefixes of the variables, lower case. The first is cut off to make the flag's name.
    const PREFIXES: &'static [&'static str];
    /// Fields named like the variables, all `String` (with a default) or `Option<String>`.
    type Raw: clap::Args + DeserializeOwned;

    /// Turns raw text into valid settings, noting every mistake. `None` only if one was noted.
    fn parse(raw: Self::Raw, mistakes: &mut Mistakes) -> Option<Self>;

    /// Where the service itself answers `/readyz`, for the `healthcheck` subcommand.
    fn health_address(&self) -> std::net::SocketAddr;

    /// How the service logs.
    fn log(&self) -> &LogSettings;

    /// Sentences about variables that nobody reads, [`warnings`]. A program made of several
    /// services adds theirs.
    fn warnings(env: &[(String, String)]) -> Vec<String> {
        warnings::<Self>(env)
    }
}

/// One value that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable's name, such as `PROXY_PORT`.
    pub name: String,
    /// What was given, or a placeholder for a secret.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() && self.name.starts_with('-') {
            // A flag alone, as it was typed.
            return write!(formatter, "{}: expected {}", self.name, self.expected);
        }
        write!(formatter, "{}={:?}: expected {}", self.name, self.value, self.expected)
    }
}

/// Collects mistakes while a service parses its raw settings.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Parses one value; a failure is noted under `name` (lower or upper case) and gives `None`.
    pub fn parse<T>(
        &mut self,
        name: &str,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value.trim();
        parse(value).map_err(|expected| self.note(name, value, expected)).ok()
    }

    /// Notes a mistake, for rules that concern more than one value.
    pub fn note(&mut self, name: &str, value: &str, expected: impl Into<String>) {
        let mut expected = expected.into();
        if value.starts_with("tcp://") {
            expected.push_str(
                " (this value looks like one that Kubernetes sets for a Service of the same name: \
                 set enableServiceLinks: false on the pod)",
            );
        }
        self.0.push(Mistake { name: name.to_uppercase(), value: value.to_owned(), expected });
    }

    /// Notes something that is wrong with the command line itself.
    pub(crate) fn note_flag(&mut self, flag: &str, value: &str, expected: String) {
        let (name, value) = (flag.to_owned(), value.to_owned());
        self.0.push(Mistake { name, value, expected });
    }

    /// Adds those that another reading has found.
    pub fn extend(&mut self, found: Vec<Mistake>) {
        self.0.extend(found);
    }

    /// All mistakes so far, in the order in which they were noted.
    #[must_use]
    pub fn into_vec(self) -> Vec<Mistake> {
        self.0
    }
}

/// What the command line asks for beside the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run the service.
    Run,
    /// Validate the settings and leave.
    Check,
    /// Ask whether a service is ready, and leave.
    Healthcheck(Healthcheck),
}

/// What the `healthcheck` subcommand asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// Another URL than the running service's own `/readyz`.
    pub url: Option<Url>,
    /// For how long to ask again after a no; zero is a single try.
    pub wait: Duration,
}

/// Settings that were read.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The valid settings.
    pub settings: S,
    /// What to do with them.
    pub task: Task,
}

/// Why settings were not read.
#[derive(Debug)]
pub enum Refusal {
    /// `--help`, `--version`, or a command line that cannot be understood at all; clap has the text.
    CommandLine(clap::Error),
    /// Flags that there are not and values that cannot be used, all of them.
    Mistakes(Vec<Mistake>),
}

/// The clap command of a service: one flag per raw field, `--check`, `healthcheck`.
#[must_use]
pub fn command<S: Settings>() -> clap::Command {
    let raw = <S::Raw as clap::Args>::augment_args(clap::Command::new(S::PROGRAM));
    let raw = raw.mut_args(|arg| {
        let id = arg.get_id().as_str().to_owned();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let none = arg.get_default_values().is_empty() && !help.contains("[default: ");
        let default = if none { " [default: none]" } else { "" };
        arg.long(flag::<S>(&id)).help(format!("{help}{default} [env: {}]", id.to_uppercase()))
    });
    // The same behind the subcommand, where the default must not hide what is said before it.
    let behind: Vec<clap::Arg> = raw
        .get_arguments()
        .map(|arg| arg.clone().hide(true).default_value(clap::builder::Resettable::Reset))
        .collect();
    raw.after_help(
        "Durations are written 250ms, 2s or 1m 30s; sizes 64KiB; shares 20%. A flag wins over its \
         variable. All mistakes are told at once, with exit code 64.",
    )
    .about(S::ABOUT)
    .version(env!("CARGO_PKG_VERSION"))
    .arg(
        clap::Arg::new("check")
            .long("check")
            .action(clap::ArgAction::SetTrue)
            .help("Validate the settings and exit: 0 if they are good, 64 if not"),
    )
    .subcommand(
        clap::Command::new("healthcheck")
            .about("Ask the running service's /readyz; exit 0 if it is ready, 1 if not")
            .after_help("The service's own flags count too, before or after the subcommand.")
            .args(behind)
            .arg(
                clap::Arg::new("url")
                    .long("url")
                    .value_name("URL")
                    .value_parser(plain_url)
                    .help("Ask this instead; for checks from another container"),
            )
            .arg(
                clap::Arg::new("wait")
                    .long("wait")
                    .value_name("DURATION")
                    .default_value("0s")
                    .value_parser(units::duration)
                    .help("Ask again until it is ready, for at most this long"),
            ),
    )
}

fn plain_url(text: &str) -> Result<Url, String> {
    Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "http" && url.has_host())
        .ok_or_else(|| "expected a URL such as http://localhost:8080/path".to_owned())
}

fn flag<S: Settings>(id: &str) -> String {
    id.strip_prefix(S::PREFIXES[0]).unwrap_or(id).replace('_', "-")
}

/// Reads settings: flag over environment over default.
///
/// An empty value counts as not set, because that is what Compose makes of `${NAME:-}`.
///
/// # Errors
/// [`Refusal`] with everything that is wrong, or with clap's text for `--help` and the like.
pub fn load<S: Settings>(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<S>, Refusal> {
    let command = command::<S>();
    let mut mistakes = Mistakes::default();
    let matches =
        command_line::parse(&command, args, &mut mistakes).map_err(Refusal::CommandLine)?;
    let env: BTreeMap<String, String> = env
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, _)| S::PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect();

    let ids: Vec<&str> = command
        .get_arguments()
        .map(|arg| arg.get_id().as_str())
        .filter(|id| *id != "check")
        .collect();
    let mut merged = BTreeMap::new();
    for id in &ids {
        let from_env = env.get(*id).filter(|value| !value.trim().is_empty());
        let behind = matches.subcommand().and_then(|(_, options)| options.get_one::<String>(id));
        let value = match (matches.value_source(id), from_env) {
            _ if behind.is_some() => behind.cloned(),
            (Some(ValueSource::CommandLine), _) | (Some(_), None) => {
                matches.get_one::<String>(id).cloned()
            }
            (_, from_env) => from_env.cloned(),
        };
        if let Some(value) = value {
            merged.insert((*id).to_owned(), value);
        }
    }

    let raw = envy::from_iter::<_, S::Raw>(merged)
        .map_err(|error| mistakes.note("settings", "", error.to_string()))
        .ok();
    let settings = raw.and_then(|raw| S::parse(raw, &mut mistakes));
    let task = match (matches.subcommand(), matches.get_flag("check")) {
        (Some((_, options)), _) => Task::Healthcheck(Healthcheck {
            url: options.get_one("url").cloned(),
            wait: options.get_one("wait").copied().unwrap_or_default(),
        }),
        (None, true) => Task::Check,
        (None, false) => Task::Run,
    };
    match settings {
        Some(settings) if mistakes.0.is_empty() => Ok(Loaded { settings, task }),
        _ => Err(Refusal::Mistakes(mistakes.into_vec())),
    }
}

/// Sentences about variables that look like settings of this program and are none. They are worth
/// telling whether or not the settings are good: a misspelt name is often why something is missing.
#[must_use]
pub fn warnings<S: Settings>(env: &[(String, String)]) -> Vec<String> {
    let command = command::<S>();
    let known: Vec<&str> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    let names: Vec<String> = env
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .filter(|name| S::PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    unknown(names.iter(), &known)
}

/// A sentence for each variable with one of our prefixes that no setting has.
fn unknown<'a>(names: impl Iterator<Item = &'a String>, known: &[&str]) -> Vec<String> {
    names
        .filter(|name| !known.contains(&name.as_str()) && !service_link(name))
        .map(|name| {
            let nearest = known
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b))
                })
                .map(|near| format!("; did you mean {}?", near.to_uppercase()))
                .unwrap_or_default();
            format!("{} is not a setting of this program{nearest}", name.to_uppercase())
        })
        .collect()
}

/// Kubernetes sets these for every Service of the namespace; they are nobody's mistake.
fn service_link(name: &str) -> bool {
    name.contains("_service_host")
        || name.contains("_service_port")
        || (name.contains("_port_") && (name.contains("_tcp") || name.contains("_udp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Example {
        port: u16,
        name: Option<String>,
    }

    #[derive(clap::Args, serde::Deserialize)]
    struct Raw {
        /// Port to listen on
        #[arg(long, default_value = "8080")]
        example_port: String,
        /// A name
        #[arg(long)]
        example_name: Option<String>,
    }

    impl Settings for Example {
        const PROGRAM: &'static str = "example";
        const ABOUT: &'static str = "An example";
        const PREFIXES: &'static [&'static str] = &["example_"];
        type Raw = Raw;

        fn parse(raw: Raw, mistakes: &mut Mistakes) -> Option<Self> {
            let port = mistakes.parse("example_port", &raw.example_port, units::port);
            Some(Self { port: port?, name: raw.example_name })
        }

        fn health_address(&self) -> std::net::SocketAddr {
            ([127, 0, 0, 1], self.port).into()
        }

        fn log(&self) -> &LogSettings {
            unreachable!("these tests do not log")
        }
    }

    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded<Example>, Refusal> {
        load(
            std::iter::once("example").chain(args.iter().copied()).map(OsString::from),
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_default() {
        assert_eq!(read(&[], &[]).unwrap().settings.port, 8080);
        assert_eq!(read(&[], &[("EXAMPLE_PORT", "1")]).unwrap().settings.port, 1);
        let both = read(&["--port", "2"], &[("EXAMPLE_PORT", "1")]).unwrap();
        assert_eq!(both.settings.port, 2);
        assert_eq!(read(&[], &[("EXAMPLE_NAME", "x")]).unwrap().settings.name.unwrap(), "x");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(read(&[], &[("EXAMPLE_PORT", "")]).unwrap().settings.port, 8080);
    }

    #[test]
    fn a_mistake_names_the_variable_the_value_and_what_was_expected() {
        let Err(Refusal::Mistakes(mistakes)) = read(&[], &[("EXAMPLE_PORT", "80 80")]) else {
            panic!("a port of two numbers was taken");
        };
        let text = mistakes[0].to_string();
        assert!(text.contains("EXAMPLE_PORT") && text.contains("80 80") && text.contains("port"));
    }

    #[test]
    fn a_kubernetes_service_link_is_explained() {
        let Err(Refusal::Mistakes(mistakes)) =
            read(&[], &[("EXAMPLE_PORT", "tcp://10.0.0.1:8080")])
        else {
            panic!("a service link was taken for a port");
        };
        assert!(mistakes[0].to_string().contains("enableServiceLinks"));
    }

    #[test]
    fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
        let env = [("EXAMPLE_PROT", "1"), ("EXAMPLE_SERVICE_HOST", "x"), ("PATH", "/")];
        assert_eq!(
            warnings::<Example>(&env.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            ["EXAMPLE_PROT is not a setting of this program; did you mean EXAMPLE_PORT?"]
        );
    }

    #[test]
    fn help_lists_flag_variable_and_default() {
        let help = command::<Example>().render_long_help().to_string();
        for part in ["--port", "EXAMPLE_PORT", "default: 8080", "default: none", "250ms", "--check"]
        {
            assert!(help.contains(part), "{part} is missing in:\n{help}");
        }
    }

    #[test]
    fn an_unknown_flag_hides_no_other_mistake() {
        let cases: [(&[&str], &str); 9] = [
            (&["--prot", "1"], "--prot=\"1\": expected a flag of this program, such as --port"),
            (&["--prot=1"], "--prot=\"1\": expected a flag of this program, such as --port"),
            (&["--namee", "--check"], "--namee: expected a flag of this program"),
            (&["-x"], "-x: expected a flag"),
            (&["twelve"], "expected a flag of this program, such as --"),
            (&["--name"], "--name: expected a value after it"),
            (&["--name", "a", "--name", "b"], "--name=\"b\": expected it once"),
            (&["--check=yes"], "--check=\"yes\": expected no value"),
            (&["--a", "--b=2", "c"], "--b=\"2\""),
        ];
        for (args, expected) in cases {
            let args = [args, &["--port", "x"]].concat();
            let Err(Refusal::Mistakes(mistakes)) = read(&args, &[]) else {
                panic!("{args:?} are no mistakes");
            };
            let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            assert!(told[0].starts_with('-') || args[0] == "twelve", "{told:?}");
            assert!(told.iter().any(|line| line.contains(expected)), "{expected}: {told:?}");
            assert!(told.last().unwrap().contains("EXAMPLE_PORT=\"x\""), "{told:?}");
        }
        // Alone, it is refused all the same.
        assert!(
            matches!(read(&["--prot", "1"], &[]), Err(Refusal::Mistakes(all)) if all.len() == 1)
        );
    }

    #[test]
    fn check_and_healthcheck_are_told_apart_from_a_run() {
        assert_eq!(read(&[], &[]).unwrap().task, Task::Run);
        assert_eq!(read(&["--check"], &[]).unwrap().task, Task::Check);
        let healthcheck = Healthcheck { url: None, wait: Duration::ZERO };
        assert_eq!(read(&["healthcheck"], &[]).unwrap().task, Task::Healthcheck(healthcheck));
    }

    #[test]
    fn flags_count_before_and_behind_the_subcommand() {
        let port = |args: &[&str]| read(args, &[("EXAMPLE_PORT", "1")]).unwrap().settings.port;
        assert_eq!(port(&["healthcheck"]), 1);
        assert_eq!(port(&["--port", "2", "healthcheck"]), 2);
        assert_eq!(port(&["healthcheck", "--port", "3"]), 3);
        assert_eq!(port(&["--port=2", "healthcheck", "--wait=1s", "--port=3"]), 3);
        assert_eq!(read(&["healthcheck"], &[]).unwrap().settings.port, 8080);
    }

    #[test]
    fn a_mistake_behind_the_subcommand_is_a_line_like_any_other() {
        let cases: [(&[&str], &str); 5] = [
            (&["--port"], "--port: expected a value after it"),
            (&["--port", "x"], "EXAMPLE_PORT=\"x\": expected a port"),
            (&["--prot", "3"], "--prot=\"3\": expected a flag of this program, such as --port"),
            (&["--wiat=3s"], "--wiat=\"3s\": expected a flag of this program, such as --wait"),
            (&["--wait=1s", "--wait=2s"], "--wait=\"2s\": expected it once"),
        ];
        for (args, expected) in cases {
            let args = [&["healthcheck"], args].concat();
            let Err(Refusal::Mistakes(mistakes)) = read(&args, &[]) else {
                panic!("{args:?} are no mistakes of the settings");
            };
            let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
        }
    }

    #[test]
    fn a_healthcheck_can_ask_another_url_but_only_one_that_it_could_open() {
        let there = "http://elsewhere:8080/path";
        let task = read(&["healthcheck", "--url", there], &[]).unwrap().task;
        let healthcheck = Healthcheck { url: there.parse().ok(), wait: Duration::ZERO };
        assert_eq!(task, Task::Healthcheck(healthcheck));
        for url in ["elsewhere:8080", "https://elsewhere/", "/path"] {
            let refusal = read(&["healthcheck", "--url", url], &[]).unwrap_err();
            assert!(matches!(refusal, Refusal::CommandLine(_)), "{url}");
        }
    }

    #[test]
    fn a_healthcheck_may_be_told_to_wait_in_the_units_of_all_durations() {
        let Task::Healthcheck(asked) = read(&["healthcheck", "--wait", "20s"], &[]).unwrap().task
        else {
            panic!("it is no healthcheck");
        };
        assert_eq!(asked.wait, Duration::from_secs(20));
        let refusal = read(&["healthcheck", "--wait", "20"], &[]).unwrap_err();
        assert!(matches!(refusal, Refusal::CommandLine(_)));
    }
}
