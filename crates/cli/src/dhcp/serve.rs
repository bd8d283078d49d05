//! One connection: a question, its answer, the end. Whoever hangs up before the answer wants it no more.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use zeugma_ipam::dhcp::protocol::{Answer, Failure, Question, VERSION};

use super::registry::{Registry, failed};

/// More than GC's list of attachments on the largest host.
const LONGEST: u64 = 16 << 20;
/// The plugin writes its question at once.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn serve(stream: UnixStream, registry: Rc<Registry>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let Some(line) = question(&mut read).await else { return };
    let answer = match parse(&line) {
        Err(answer) => answer,
        Ok(Question { ask, .. }) => tokio::select! {
            answer = registry.answer(ask) => answer,
            () = hung_up(&mut read) => return,
        },
    };
    let mut line = serde_json::to_vec(&answer).expect("texts and results are JSON");
    line.push(b'\n');
    // Nobody is left to tell when the plugin is gone.
    let _ = write.write_all(&line).await;
}

async fn question(read: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    let mut read = read.take(LONGEST);
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await.ok()?.ok()?;
    Some(line)
}

/// The version is looked at first: a question of another one may well have another shape.
fn parse(line: &str) -> Result<Question, Answer> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let strange = |error| {
        failed(
            Failure::Version,
            format!("this is `zeugma dhcp`, and the question is not understood: {error}"),
        )
    };
    let Versioned { version } = serde_json::from_str(line).map_err(strange)?;
    if version != VERSION {
        let message = format!(
            "the plugin speaks version {version} to the DHCP daemon, which speaks {VERSION}: \
             start the daemon of the plugin's release"
        );
        return Err(failed(Failure::Version, message));
    }
    serde_json::from_str(line).map_err(strange)
}

async fn hung_up(read: &mut BufReader<OwnedReadHalf>) {
    let mut more = [0; 64];
    while read.read(&mut more).await.is_ok_and(|bytes| bytes > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_and_versions_are_told_so() {
        let check = |line: &str, expected: &str| match parse(line) {
            Err(Answer::Failed { failure: Failure::Version, message }) => {
                assert!(message.contains(expected), "{message}");
            }
            other => panic!("{other:?}"),
        };
        check("CONNECT /_goRPC_ HTTP/1.0\n", "zeugma dhcp");
        check(r#"{"version":2,"ask":"dance"}"#, "version 2");
        check(r#"{"version":1,"ask":"dance"}"#, "dance");
        assert!(parse(r#"{"version":1,"ask":"status"}"#).is_ok());
    }
}
