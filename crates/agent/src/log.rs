//! Structured logs on stderr.

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// hickory-net warns of every answer that it does not believe; boringtun tells of every handshake that has no answer,
/// for each peer that is away every five seconds.
const QUIET: &str = "hickory_net=error,boringtun=off";

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
    let filter = filter(&std::env::var("ZEUGMA_LOG").unwrap_or_default());
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter);
    // Whoever started this process may have closed the other end: then nobody is told of that, either.
    let lines = lines.log_internal_errors(false);
    match format {
        // The journal of systemd has its own time, and colours are for terminals.
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// What `text` lets through. Others could make each a line of what these two tell: whoever wants to read it names
/// `hickory_net` or `boringtun` in the text.
fn filter(text: &str) -> EnvFilter {
    let usual = || EnvFilter::new(format!("{QUIET},info"));
    if text.trim().is_empty() {
        return usual();
    }
    EnvFilter::try_new(format!("{QUIET},{text}")).unwrap_or_else(|_| usual())
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(text: &str, expected: [bool; 4]) {
        let lines = Lines::default();
        let writer = lines.clone();
        let logger =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_env_filter(filter(text));
        tracing::subscriber::with_default(logger.finish(), || {
            tracing::warn!(target: "hickory_net::udp::udp_client_stream", "forged");
            tracing::warn!(target: "boringtun::noise::timers", "unanswered");
            tracing::warn!("ours");
            tracing::info!("told");
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            ["forged", "unanswered", "ours", "told"].map(|word| log.contains(word)),
            expected,
            "{text:?}: {log}"
        );
    }

    #[test]
    fn what_others_can_repeat_does_not_fill_the_log_unless_somebody_wants_to_read_it() {
        check("", [false, false, true, true]);
        check("info", [false, false, true, true]);
        check("warn", [false, false, true, false]);
        check("no=such=thing", [false, false, true, true]);
        check("hickory_net=warn,info", [true, false, true, true]);
        check("boringtun=debug,info", [false, true, true, true]);
    }
}
