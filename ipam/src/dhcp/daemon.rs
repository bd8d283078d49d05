//! A question to the daemon and its answer.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::protocol::{Answer, Ask, Question, VERSION};

/// More than any answer has.
const LONGEST: u64 = 1 << 20;

/// Asks the daemon at `socket`.
pub(super) fn ask(socket: &Path, ask: &Ask, patience: Duration) -> Result<Answer, Error> {
    let question = Question { version: VERSION, ask: ask.clone() };
    let mut line = serde_json::to_vec(&question).map_err(Error::Question)?;
    line.push(b'\n');
    let stream = UnixStream::connect(socket).map_err(|source| unreachable(socket, source))?;
    let said = converse(stream, &line, patience).map_err(|source| broken(socket, source))?;
    serde_json::from_str(&said).map_err(|_| foreign(said))
}

fn converse(mut stream: UnixStream, line: &[u8], patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(line)?;
    let mut said = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut said)?;
    if said.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(said) }
}

fn unreachable(socket: &Path, source: io::Error) -> Error {
    let socket = socket.to_path_buf();
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NoDaemon { socket, source },
        _ => Error::Connection { socket, source },
    }
}

fn broken(socket: &Path, source: io::Error) -> Error {
    let socket = socket.to_path_buf();
    match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Slow { socket },
        _ => Error::Connection { socket, source },
    }
}

fn foreign(said: String) -> Error {
    let said: String = said.trim().chars().take(100).collect();
    if said.starts_with("HTTP/") { Error::Reference } else { Error::Strange { said } }
}
