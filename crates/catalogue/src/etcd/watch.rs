//! A watch that outlives connections and members: it knows the last revision that it told, and goes on after it, if the
//! store is the one that it was.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Event, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::{mpsc, watch as channel};

use super::keys::Range;
use super::members::Repeat;
use super::{ANSWER_LIMIT, Core, revision, values};
use crate::{Change, Error, Item, Kind, Notice, Revision, Watch, identity};

/// Pauses before a connection that broke is made again: they grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Watches once etcd has confirmed it; goes on until the listener or the store is gone.
pub(super) async fn start(
    core: Arc<Core>,
    kinds: &[Kind],
    after: Revision,
    open: channel::Receiver<()>,
) -> Result<Watch, Error> {
    let (range, kinds) = (core.keys.covering(kinds), kinds.to_vec());
    let mut story = Story { range, core, kinds, after, identity: None };
    let stream = story.connect().await?;
    story.identity = story.origin().await?.0;
    let (listener, watch) = Watch::channel();
    tokio::spawn(while_open(open, async move {
        tokio::select! {
            () = listener.closed() => {}
            () = story.tell(stream, &listener) => {}
        }
    }));
    Ok(watch)
}

/// Does `work` as long as the store is open.
pub(super) async fn while_open(mut open: channel::Receiver<()>, work: impl Future<Output = ()>) {
    tokio::select! {
        // Nothing is ever sent: it is the end of the sender that counts.
        _ = open.changed() => {}
        () = work => {}
    }
}

/// What one watch tells.
struct Story {
    core: Arc<Core>,
    kinds: Vec<Kind>,
    range: Range,
    /// Everything up to here has been told.
    after: Revision,
    /// The ID of the catalogue, as it was when it began.
    identity: Option<Item>,
}

/// What to do after a response.
enum Next {
    Continue,
    Reconnect,
    End,
}

impl Story {
    async fn tell(mut self, mut stream: WatchStream, listener: &mpsc::Sender<Notice>) {
        loop {
            let next = match stream.message().await {
                Ok(Some(response)) => self.hear(&response, listener).await,
                Ok(None) | Err(_) => Next::Reconnect,
            };
            match next {
                Next::Continue => {}
                Next::Reconnect => match self.reconnect().await {
                    Some(again) => stream = again,
                    None => {
                        // Whether it is heard or not, nothing comes after it.
                        let _ = listener.send(Notice::Compacted).await;
                        return;
                    }
                },
                Next::End => return,
            }
        }
    }

    async fn hear(&mut self, response: &WatchResponse, listener: &mpsc::Sender<Notice>) -> Next {
        if response.compact_revision() != 0 {
            // Whether it is heard or not, nothing comes after it.
            let _ = listener.send(Notice::Compacted).await;
            return Next::End;
        }
        if response.canceled() {
            return Next::Reconnect;
        }
        let events = response.events();
        // Without events it is about progress: all up to its revision has been told.
        let progress = response.header().filter(|_| !response.created()).map(|header| header.revision());
        if let Some(told) =
            events.last().and_then(Event::kv).map_or(progress, |last| Some(last.mod_revision()))
        {
            self.after = self.after.max(revision(told));
        }
        let changes: Vec<Change> = events.iter().filter_map(|event| self.change(event)).collect();
        if !changes.is_empty() && listener.send(Notice::Changes(changes)).await.is_err() {
            return Next::End;
        }
        Next::Continue
    }

    fn change(&self, event: &Event) -> Option<Change> {
        let value = event.kv()?;
        let change = match event.event_type() {
            EventType::Put => Change::Put(self.core.item(value)?),
            EventType::Delete => {
                let key = self.core.keys.decode(value.key())?;
                Change::Delete { key, revision: revision(value.mod_revision()) }
            }
        };
        self.kinds.contains(&change.kind()).then_some(change)
    }

    /// A stream of all after what has been told, once a member gives it; none when it would be another history's: of a
    /// store that was made anew or brought back from a copy meanwhile.
    async fn reconnect(&self) -> Option<WatchStream> {
        self.core.doubt.notify_one();
        let mut pause = PAUSES.0;
        loop {
            tokio::time::sleep(pause).await;
            if let Ok(stream) = self.connect().await
                && let Ok((identity, at)) = self.origin().await
            {
                return (identity == self.identity && at >= self.after).then_some(stream);
            }
            pause = PAUSES.1.min(pause * 2);
        }
    }

    /// The catalogue's ID, and the store's last revision.
    async fn origin(&self) -> Result<(Option<Item>, Revision), Error> {
        let name = self.core.keys.encode(&identity::key()?);
        let request = |client: Client| {
            let name = name.clone();
            async move { values(&client).get(name, None).await }
        };
        let answer = self.core.ask(Repeat::Harmless, request).await;
        let answer = answer.map_err(|failure| failure.of(format!("watch {}", words(&self.kinds))))?;
        let at = answer.header().map_or(0, |header| header.revision());
        Ok((answer.kvs().first().and_then(|value| self.core.item(value)), revision(at)))
    }

    async fn connect(&self) -> Result<WatchStream, Error> {
        let (start, end) = self.range.clone();
        let next = self.after.0.cast_signed() + 1;
        let options = WatchOptions::new().with_range(end).with_start_revision(next).with_progress_notify();
        let request = |client: Client| {
            let (start, options) = (start.clone(), options.clone());
            async move {
                let mut watches = client.watch_client().max_decoding_message_size(ANSWER_LIMIT);
                let mut stream = watches.watch(start, Some(options)).await?;
                confirmed(stream.message().await?).map(|()| stream)
            }
        };
        let stream = self.core.ask(Repeat::Harmless, request).await;
        stream.map_err(|failure| failure.of(format!("watch {}", words(&self.kinds))))
    }
}

/// The first response says whether the watch is granted.
fn confirmed(first: Option<WatchResponse>) -> Result<(), etcd_client::Error> {
    match first {
        Some(response) if response.created() && !response.canceled() => Ok(()),
        Some(response) if response.canceled() => {
            let why = response.cancel_reason().to_owned();
            Err(etcd_client::Error::GRpcStatus(tonic::Status::permission_denied(why)))
        }
        _ => Err(etcd_client::Error::WatchError("the stream ended before it began".to_owned())),
    }
}

fn words(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}
