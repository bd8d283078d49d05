//! Breaks the database wherever a process can be killed or a machine can lose power, and looks what is left.
//! `tests/crash.rs` does the same to a real process and a real file, at moments of its own choosing.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::ledger::{History, Ledger};
use crate::{Change, Key, Kind, Outcome, Revision, Transaction};

/// Transactions that are written; the history keeps the last few, so that it is trimmed all the time, too.
const COUNT: u64 = 5;
const KEPT: u64 = 9;

/// What the database asked of its file.
#[derive(Debug, Clone)]
enum Call {
    SetLen(u64),
    Write(u64, Vec<u8>),
    Sync,
}

/// A file in memory, and all that was done to it.
#[derive(Debug, Clone, Default)]
struct Recorder {
    bytes: Arc<Mutex<Vec<u8>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (bytes, start) = (self.bytes.lock().unwrap(), offset as usize);
        let part = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.calls.lock().unwrap().push(Call::SetLen(len));
        apply(&mut self.bytes.lock().unwrap(), &Call::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.calls.lock().unwrap().push(Call::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let call = Call::Write(offset, data.to_vec());
        apply(&mut self.bytes.lock().unwrap(), &call);
        self.calls.lock().unwrap().push(call);
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, call: &Call) {
    match call {
        Call::SetLen(len) => bytes.resize(*len as usize, 0),
        Call::Write(offset, data) => bytes[*offset as usize..][..data.len()].copy_from_slice(data),
        Call::Sync => {}
    }
}

/// What a run did to its file, from a whole database on; and after how many calls each transaction was acknowledged.
struct Run {
    start: Vec<u8>,
    calls: Vec<Call>,
    acknowledged: Vec<usize>,
}

/// Transaction `n` writes two values, deletes those of the one before, and binds one to a lease.
fn run() -> Run {
    let recorder = Recorder::default();
    let ledger = Ledger::in_backend(recorder.clone(), KEPT).unwrap();
    let lease = ledger.grant(std::time::Duration::from_secs(1)).unwrap();
    let (start, skipped) = (recorder.bytes.lock().unwrap().clone(), recorder.calls().len());
    let mut acknowledged = Vec::new();
    for n in 1..=COUNT {
        let text = format!("{n} ").repeat(700);
        let writes = Transaction::new().put(key("a", n), text.clone()).put_leased(key("b", n), text, lease);
        let writes = writes.delete(key("a", n - 1)).delete(key("b", n - 1));
        assert_eq!(ledger.commit(writes, |_| true).unwrap(), Outcome::Committed(Revision(n)));
        acknowledged.push(recorder.calls().len() - skipped);
    }
    Run { start, calls: recorder.calls().split_off(skipped), acknowledged }
}

fn key(name: &str, n: u64) -> Key {
    Key::new(Kind::Service, format!("{name}{n}")).unwrap()
}

/// Opens what is left: every acknowledged transaction is there, and at most the one that was under way; whole.
fn check(left: Vec<u8>, acknowledged: u64, what: &str) {
    let left = Recorder { bytes: Arc::new(Mutex::new(left)), calls: Arc::default() };
    let ledger = Ledger::in_backend(left, KEPT).unwrap_or_else(|error| panic!("{what}: {error}"));
    let listing = ledger.list(Kind::Service, "").unwrap();
    let n = listing.revision.0;
    assert!(n == acknowledged || n == acknowledged + 1, "{what}: {n} of {acknowledged} acknowledged");
    let there: Vec<Key> = listing.items.into_iter().map(|item| item.key).collect();
    let expected = if n == 0 { vec![] } else { vec![key("a", n), key("b", n)] };
    assert_eq!(there, expected, "{what}");
    let History::Changes { changes, upto } =
        ledger.history(&Kind::ALL, Revision(n.saturating_sub(2))).unwrap()
    else {
        panic!("{what}: history is lost")
    };
    // Four changes in a transaction, but the first has nothing to delete.
    let sizes: usize = (n.saturating_sub(2) + 1..=n).map(|n| if n == 1 { 2 } else { 4 }).sum();
    assert_eq!((changes.len(), upto), (sizes, Revision(n)), "{what}");
    assert!(changes.iter().all(|change| change.revision() <= upto && change.kind() == Kind::Service));
    if n > 0 {
        ledger.revoke(crate::LeaseId(1)).unwrap();
        let after = ledger.list(Kind::Service, "").unwrap();
        assert_eq!((after.items.len(), after.revision.0), (1, n + 1), "{what}: {changes:?}");
        assert!(matches!(changes.last(), Some(Change::Delete { .. } | Change::Put(_))));
    }
}

/// Transactions that were acknowledged when `calls` calls had been made.
fn acknowledged(run: &Run, calls: usize) -> u64 {
    run.acknowledged.iter().filter(|at| **at <= calls).count() as u64
}

#[test]
fn killed_at_any_byte_nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let run = run();
    let mut bytes = run.start.clone();
    for (index, call) in run.calls.iter().enumerate() {
        for cut in cuts(call) {
            let mut left = bytes.clone();
            if let Call::Write(offset, data) = call {
                apply(&mut left, &Call::Write(*offset, data[..cut].to_vec()));
            }
            check(left, acknowledged(&run, index), &format!("call {index}, byte {cut}"));
        }
        apply(&mut bytes, call);
    }
    check(bytes, COUNT, "at the end");
}

/// Where a write is broken off: the header, which decides what counts, at every eighth byte, a page at a few.
fn cuts(call: &Call) -> Vec<usize> {
    match call {
        Call::Write(0, data) => (0..data.len()).step_by(8).collect(),
        Call::Write(_, data) => vec![1, data.len() / 2],
        Call::SetLen(_) | Call::Sync => vec![0],
    }
}

/// Of what was written since the last sync any part may have reached the disk.
#[test]
fn power_lost_at_any_sync_nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let run = run();
    let (mut synced, mut pending, mut seed) = (run.start.clone(), Vec::<&Call>::new(), 1u64);
    for (index, call) in run.calls.iter().enumerate() {
        for attempt in 0..6 {
            let mut left = synced.clone();
            for call in &pending {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // The length of a file is journalled before what is beyond its old end.
                if matches!(call, Call::SetLen(_)) || (seed >> 33) % 3 != attempt % 3 {
                    apply(&mut left, call);
                }
            }
            check(left, acknowledged(&run, index), &format!("call {index}, attempt {attempt}"));
        }
        match call {
            Call::Sync => pending.drain(..).for_each(|call| apply(&mut synced, call)),
            call => pending.push(call),
        }
    }
    check(synced, COUNT, "at the end");
}
