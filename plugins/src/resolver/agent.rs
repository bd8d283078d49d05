//! Tells the agent that an attachment changed, and gives it a moment to take notice.
//!
//! The agent reads the journal for itself; so what is said here is short, and what is answered matters little. A
//! hand-written HTTP request, since a client library would be larger than the plugin.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zeugma_journal::run_dir;
use zeugma_model::AttachmentId;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// `HTTP/1.1 200`: what of the answer is looked at.
const STATUS_LINE: usize = 12;

/// What came of it.
#[derive(Debug)]
pub(super) enum Heard {
    /// The names are as the journal has them.
    Yes,
    /// Nobody listens there.
    NoAgent,
    /// It listens, and did not answer as it should.
    Trouble(io::Error),
}

impl Heard {
    /// What a person has to know of it; none when all is well.
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Yes => None,
            Self::NoAgent => Some("no agent runs on this host; start it with `zeugma agent`".into()),
            Self::Trouble(error) => Some(format!("the agent does not answer: {error}; see its log")),
        }
    }
}

/// The attachment's records changed.
pub(super) fn sync(id: &AttachmentId) -> Heard {
    let body = serde_json::to_string(id).expect("names are JSON");
    ask("POST", zeugma_api::SYNC, &body)
}

/// Whether it is there.
pub(super) fn look() -> Heard {
    ask("GET", zeugma_api::STATUS, "")
}

fn ask(method: &str, path: &str, body: &str) -> Heard {
    let end = Instant::now() + PATIENCE;
    let mut stream = match zeugma_kernel::connect_local(&run_dir().join(zeugma_api::SOCKET), PATIENCE) {
        Ok(stream) => stream,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            return Heard::NoAgent;
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Trouble(late()),
        Err(error) => return Heard::Trouble(error),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match exchange(&mut stream, request.as_bytes(), end) {
        Ok(line) if line.starts_with(b"HTTP/1.") && line[8..] == *b" 200" => Heard::Yes,
        Ok(line) => Heard::Trouble(io::Error::other(format!("it says {}", line.escape_ascii()))),
        Err(error) => Heard::Trouble(error),
    }
}

/// The request goes out in one piece: it is shorter than any socket's buffer.
fn exchange(stream: &mut UnixStream, request: &[u8], end: Instant) -> io::Result<[u8; STATUS_LINE]> {
    let left = || end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    stream.set_write_timeout(Some(left().ok_or_else(late)?))?;
    stream.write_all(request)?;
    let mut line = [0; STATUS_LINE];
    let mut filled = 0;
    while filled < line.len() {
        stream.set_read_timeout(Some(left().ok_or_else(late)?))?;
        match stream.read(&mut line[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing came within {PATIENCE:?}"))
}
