//! The store of a cluster: etcd, version 3.4 or later. Its promises are those of [`Store`]; nothing is
//! agreed on between machines but by etcd.
//!
//! Here is each request as etcd has it. Who is asked: `members.rs`; what a watch survives: `watch.rs`.
//! Opening it does not wait for etcd: an agent starts, and says that it is degraded, also while etcd is away.

mod keys;
mod members;
mod settings;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, KvClient, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::sync::{Notify, watch as channel};
use tonic::Code;

use crate::health::Pulse;
use crate::transaction::{Expected, Write};
use crate::{Error, Health, Item, Key, Kind, LeaseId, Listing, Outcome, Revision, Store, Transaction, Watch};
use keys::{Keys, Range};
use members::{Failure, Members, Repeat};
pub use settings::{ClientIdentity, Settings, Tls, User};

/// Values in one answer to a listing; the rest comes in further ones, of the same revision.
const PAGE: i64 = 250;
/// The largest answer that is taken: the most that etcd sends. A watch that was away long gets much at once.
const ANSWER_LIMIT: usize = i32::MAX as usize;
/// How often is looked whether etcd answers, while it does not.
const PROBE_DEGRADED: Duration = Duration::from_secs(1);

/// The store in etcd. When it is dropped its watches end.
#[derive(Debug)]
pub struct Etcd {
    core: Arc<Core>,
    /// Goes with this, and what waits for it ends.
    open: channel::Sender<()>,
}

#[derive(Debug)]
struct Core {
    keys: Keys,
    members: Members,
    pulse: Pulse,
    /// Something failed: look at once whether etcd answers.
    doubt: Notify,
}

impl Etcd {
    /// The catalogue in the etcd of `settings`. Does not wait for it.
    ///
    /// # Errors
    /// [`Error::Settings`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(settings: Settings) -> Result<Etcd, Error> {
        settings.check()?;
        let (keys, probe) = (Keys::new(&settings.prefix), settings.probe);
        let members = Members::new(settings);
        let core = Arc::new(Core { keys, members, pulse: Pulse::new(Health::Healthy), doubt: Notify::new() });
        let (open, is_open) = channel::channel(());
        tokio::spawn(watch::while_open(is_open, look_after(core.clone(), probe)));
        Ok(Etcd { core, open })
    }
}

/// Looks whether etcd answers: now and then, at once when in doubt, and more often while it does not. This alone
/// decides on the health, so that it does not flicker with each request.
async fn look_after(core: Arc<Core>, probe: Duration) {
    loop {
        let answer = core.probe().await;
        let pause = if answer.is_ok() { probe } else { PROBE_DEGRADED.min(probe) };
        core.pulse.beat(answer);
        if core.pulse.observe().borrow().is_degraded() {
            tokio::time::sleep(pause).await;
        } else {
            let _ = tokio::time::timeout(pause, core.doubt.notified()).await;
        }
    }
}

impl Core {
    async fn ask<T, F>(&self, repeat: Repeat, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let answer = self.members.ask(repeat, request).await;
        if matches!(answer, Err(Failure::Unavailable { .. } | Failure::Unacknowledged { .. })) {
            self.doubt.notify_one();
        }
        answer
    }

    /// A read that only a member with a leader and a quorum answers.
    async fn probe(&self) -> Result<(), Error> {
        let (start, _) = self.keys.covering(&Kind::ALL);
        let options = GetOptions::new().with_count_only();
        let request = |client: Client| {
            let (start, options) = (start.clone(), options.clone());
            async move { client.kv_client().get(start, Some(options)).await }
        };
        let answer = self.members.ask(Repeat::Harmless, request).await;
        answer.map(drop).map_err(|failure| failure.of("look whether etcd answers"))
    }

    /// A value as ours; `None` when the key is not one of ours.
    fn item(&self, value: &KeyValue) -> Option<Item> {
        Some(Item {
            key: self.keys.decode(value.key())?,
            value: value.value().to_vec(),
            revision: revision(value.mod_revision()),
            lease: (value.lease() != 0).then(|| LeaseId(value.lease().cast_unsigned())),
        })
    }

    /// All pages of one revision.
    async fn pages(&self, (start, end): Range) -> Result<(Vec<Item>, Revision), Failure> {
        let (mut items, mut from, mut at) = (Vec::new(), start, 0);
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(at);
            let request = |client: Client| {
                let (from, options) = (from.clone(), options.clone());
                async move { values(&client).get(from, Some(options)).await }
            };
            let page = self.ask(Repeat::Harmless, request).await?;
            if at == 0 {
                at = page.header().map_or(0, |header| header.revision());
            }
            items.extend(page.kvs().iter().filter_map(|value| self.item(value)));
            match page.kvs().last() {
                // The least key after the last one.
                Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok((items, revision(at))),
            }
        }
    }

    fn txn(&self, transaction: &Transaction) -> Txn {
        let expected = transaction.expected.iter();
        let (compares, looks): (Vec<_>, Vec<_>) = expected
            .map(|(key, expected)| {
                let name = self.keys.encode(key);
                let look = TxnOp::get(name.clone(), Some(GetOptions::new().with_keys_only()));
                (compare(name, *expected), look)
            })
            .unzip();
        let writes = transaction.writes.iter().map(|(key, write)| operation(self.keys.encode(key), write));
        Txn::new().when(compares).and_then(writes.collect::<Vec<_>>()).or_else(looks)
    }

    /// The first of these leases that has ended.
    async fn ended(&self, leases: impl Iterator<Item = LeaseId>) -> Result<Option<LeaseId>, Failure> {
        for lease in leases {
            let id = lease.0.cast_signed();
            let request = |client: Client| async move { client.lease_client().time_to_live(id, None).await };
            if self.ask(Repeat::Harmless, request).await?.ttl() <= 0 {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let name = self.core.keys.encode(key);
        let request = |client: Client| {
            let name = name.clone();
            async move { values(&client).get(name, None).await }
        };
        let answer = self.core.ask(Repeat::Harmless, request).await;
        let answer = answer.map_err(|failure| failure.of(format!("read {key}")))?;
        Ok(answer.kvs().first().and_then(|value| self.core.item(value)))
    }

    async fn list(&self, kind: Kind, prefix: &str) -> Result<Listing, Error> {
        let range = self.core.keys.named(kind, prefix);
        let mut pages = self.core.pages(range.clone()).await;
        // Its revision was compacted between two pages: the next one is newer, and has more time.
        if pages.as_ref().is_err_and(|failure| failure.is(Code::OutOfRange)) {
            pages = self.core.pages(range).await;
        }
        let (items, revision) = pages.map_err(|failure| failure.of(format!("list {kind}")))?;
        Ok(Listing { items, revision, is_recalled: false })
    }

    async fn watch(&self, kinds: &[Kind], after: Revision) -> Result<Watch, Error> {
        watch::start(self.core.clone(), kinds, after, self.open.subscribe()).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, Error> {
        transaction.check()?;
        let subject = transaction.subject();
        let txn = self.core.txn(&transaction);
        let request = |client: Client| {
            let txn = txn.clone();
            async move { values(&client).txn(txn).await }
        };
        let answer = match self.core.ask(Repeat::Harmful, request).await {
            Err(failure) if failure.is(Code::NotFound) => {
                let leases = transaction.writes.values().filter_map(Write::lease);
                let ended = self.core.ended(leases).await.map_err(|failure| failure.of(&subject))?;
                return Err(ended.map_or_else(|| failure.of(subject), |lease| Error::LeaseEnded { lease }));
            }
            answer => answer.map_err(|failure| failure.of(subject))?,
        };
        if answer.succeeded() {
            return Ok(Outcome::Committed(revision(answer.header().map_or(0, |header| header.revision()))));
        }
        Ok(conflict(&transaction, &answer.op_responses()))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let seconds = crate::lease::whole_seconds(ttl).cast_signed();
        // One that is granted twice runs out once.
        let request = |client: Client| async move { client.lease_client().grant(seconds, None).await };
        let answer = self.core.ask(Repeat::Harmless, request).await;
        answer.map(|lease| LeaseId(lease.id().cast_unsigned())).map_err(|failure| failure.of("grant a lease"))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let id = lease.0.cast_signed();
        let request = |client: Client| async move {
            match client.lease_client().keep_alive(id).await {
                Ok(_) => Ok(true),
                Err(etcd_client::Error::LeaseKeepAliveError(why)) if why == "lease not found" => Ok(false),
                Err(error) => Err(error),
            }
        };
        match self.core.ask(Repeat::Harmless, request).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::LeaseEnded { lease }),
            Err(failure) => Err(failure.of(format!("keep lease {lease} alive"))),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let id = lease.0.cast_signed();
        let request = |client: Client| async move { client.lease_client().revoke(id).await };
        match self.core.ask(Repeat::Harmless, request).await {
            Err(failure) if !failure.is(Code::NotFound) => Err(failure.of(format!("end lease {lease}"))),
            _ => Ok(()),
        }
    }

    fn health(&self) -> channel::Receiver<Health> {
        self.core.pulse.observe()
    }
}

fn values(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_LIMIT)
}

fn compare(name: Vec<u8>, expected: Expected) -> Compare {
    match expected {
        Expected::Absent => Compare::create_revision(name, CompareOp::Equal, 0),
        Expected::At(revision) => Compare::mod_revision(name, CompareOp::Equal, revision.0.cast_signed()),
    }
}

fn operation(name: Vec<u8>, write: &Write) -> TxnOp {
    match write {
        Write::Put { value, lease } => {
            let lease = lease.map_or(0, |lease| lease.0.cast_signed());
            TxnOp::put(name, value.clone(), Some(PutOptions::new().with_lease(lease)))
        }
        Write::Delete => TxnOp::delete(name, None),
    }
}

/// `looks` are what was found under the keys of the conditions, in their order.
fn conflict(transaction: &Transaction, looks: &[TxnOpResponse]) -> Outcome {
    let found = |look: &TxnOpResponse| match look {
        TxnOpResponse::Get(found) => found.kvs().first().map(|value| revision(value.mod_revision())),
        _ => None,
    };
    let mut looks = transaction.expected.iter().zip(looks.iter().map(found));
    let failed = looks.find(|((_, expected), found)| !expected.holds(*found));
    let ((key, _), found) = failed.expect("etcd says that a condition does not hold, and shows what it saw");
    Outcome::Conflict { key: key.clone(), found }
}

/// Never negative: etcd counts from 1.
fn revision(number: i64) -> Revision {
    Revision(number.cast_unsigned())
}
