//! Logging: one line per event on standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::Mistakes;

/// How a service logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    filter: String,
    format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl LogSettings {
    /// Parses `<prefix>log` and `<prefix>log_format`.
    pub fn parse(
        prefix: &str,
        filter: &str,
        format: &str,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let filter = mistakes.parse(&format!("{prefix}log"), filter, |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| {
                "error, warn, info, debug, trace, or directives such as info,hyper=debug".to_owned()
            })
        });
        let format = mistakes.parse(&format!("{prefix}log_format"), format, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("text or json".to_owned()),
        });
        Some(Self { filter: filter?, format: format? })
    }
}

/// Starts logging for this process. A second call changes nothing, so tests may call it at will.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::new(&settings.filter);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // `try_init` fails only where a subscriber is already set.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
