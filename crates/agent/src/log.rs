//! Structured logs on stderr.

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// An object a line.
    Json,
}

/// Sends what this process logs to stderr. `ZEUGMA_LOG` says how much, as in `debug` or `zeugma_agent=debug,info`.
pub fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("ZEUGMA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter);
    match format {
        // The journal of systemd has its own time, and colours are for terminals.
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
