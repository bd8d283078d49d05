//! A process that writes is killed with SIGKILL, again and again; what it had acknowledged is there. The test is its
//! own victim: it starts itself with the path of the file in its environment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zeugma_catalogue::{Embedded, Key, Kind, Outcome, Revision, Store, Transaction};

const NAME: &str = "killed_while_writing_it_keeps_what_it_acknowledged";
const VICTIM: &str = "ZEUGMA_CATALOGUE_VICTIM";
const ACKNOWLEDGED: &str = "acknowledged ";
/// Kills, unless the machine is so slow that the time is over before.
const KILLS: u32 = 60;
const BUDGET: Duration = Duration::from_secs(12);

#[test]
fn killed_while_writing_it_keeps_what_it_acknowledged() {
    if let Some(path) = std::env::var_os(VICTIM) {
        return on_runtime(write_for_ever(Path::new(&path)));
    }
    let (directory, begin) = (TempDir::new().unwrap(), Instant::now());
    let mut path = directory.path().join("0.redb");
    let mut last = 0;
    for round in 0..KILLS {
        if begin.elapsed() > BUDGET && round > 5 {
            break;
        }
        // Every fifth file is a new one, so that the making of it is hit, too.
        if round % 5 == 0 {
            (path, last) = (directory.path().join(format!("{round}.redb")), 0);
        }
        let told = kill_after(&path, Duration::from_micros(u64::from(round) * 7919 % 60_000));
        last = on_runtime(look(&path, last.max(told)));
    }
    assert!(last > 0, "nothing was written between the kills");
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// The victim. Each transaction writes the same number to four keys.
async fn write_for_ever(path: &Path) {
    let store = Embedded::open(path).await.unwrap();
    loop {
        let next = store.list(Kind::Node, "").await.unwrap().revision.0 + 1;
        let all = (0..4).fold(Transaction::new(), |t, n| t.put(node(n), next.to_string().repeat(300)));
        assert_eq!(store.commit(all).await.unwrap(), Outcome::Committed(Revision(next)));
        println!("{ACKNOWLEDGED}{next}");
    }
}

fn node(number: u32) -> Key {
    Key::new(Kind::Node, format!("n{number}")).unwrap()
}

/// Starts a victim, lets it live for a while after it is at work, and returns the last number that it acknowledged.
/// A while of nothing hits it when it starts.
fn kill_after(path: &Path, life: Duration) -> u64 {
    let mut child = victim(path);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut numbers = lines.filter_map(|line| line.unwrap().strip_prefix(ACKNOWLEDGED)?.parse().ok());
    let first = if life.as_millis().is_multiple_of(4) { None } else { numbers.next() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(life);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        numbers.last().or(first).unwrap_or(0)
    })
}

fn victim(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", NAME, "--nocapture"]).env(VICTIM, path);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What is there: at least what was acknowledged, at most one transaction more, and no part of one.
async fn look(path: &Path, acknowledged: u64) -> u64 {
    let store = Embedded::open(path).await.unwrap();
    let listing = store.list(Kind::Node, "").await.unwrap();
    let revision = listing.revision.0;
    assert!((acknowledged..=acknowledged + 1).contains(&revision), "{revision} after {acknowledged}");
    let expected = revision.to_string().repeat(300).into_bytes();
    assert!(listing.items.iter().all(|item| item.value == expected && item.revision.0 == revision));
    assert_eq!(listing.items.len(), if revision == 0 { 0 } else { 4 });
    revision
}
