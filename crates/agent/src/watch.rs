//! Notices changes of the journal that nobody told of, by inotify: a post that got lost, a plugin that had no agent.
//!
//! Best effort: where the kernel has no watches left, the periodic comparison finds everything, later.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::mpsc;
use zeugma_model::AttachmentId;

use crate::reconcile::Message;

/// Bytes of events that are read at once.
const BUFFER: usize = 16 << 10;
/// Directories below the journal's: network, container, interface.
const DEPTH: usize = 3;

/// Tells the loop of changes below the journal's directory, as long as it listens, from a thread of its own.
pub(crate) fn watch(root: PathBuf, loop_: mpsc::Sender<Message>) {
    let watching = move || match Watched::new(root).and_then(|watched| watched.run(&loop_)) {
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(%error, "the journal is not watched: changes nobody tells of are found every half minute");
        }
    };
    if let Err(error) = thread::Builder::new().name("journal".into()).spawn(watching) {
        tracing::warn!(%error, "the journal is not watched: there is no thread to be had");
    }
}

struct Watched {
    root: PathBuf,
    inotify: Inotify,
    watches: Watches,
    directories: HashMap<WatchDescriptor, PathBuf>,
    complained: bool,
}

/// What one event means.
enum Meaning {
    Attachment(AttachmentId),
    NewDirectory(PathBuf),
    Lost,
    Nothing,
}

impl Watched {
    fn new(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let mut watched =
            Self { root: root.clone(), inotify, watches, directories: HashMap::new(), complained: false };
        watched.descend(&root, 0, &mut Vec::new());
        Ok(watched)
    }

    fn run(mut self, loop_: &mpsc::Sender<Message>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let events: Vec<_> =
                self.inotify.read_events_blocking(&mut buffer)?.map(|event| event.to_owned()).collect();
            for message in events.into_iter().flat_map(|event| self.heard(event)).collect::<Vec<_>>() {
                if loop_.blocking_send(message).is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn heard(&mut self, event: Event<std::ffi::OsString>) -> Vec<Message> {
        if event.mask.contains(EventMask::IGNORED) {
            self.directories.remove(&event.wd);
        }
        match self.meaning(&event) {
            Meaning::Lost => vec![Message::Lost],
            Meaning::Nothing => Vec::new(),
            Meaning::Attachment(id) => vec![Message::Changed(id)],
            Meaning::NewDirectory(path) => {
                // What was made in it before the watch was there is found by looking.
                let mut found = Vec::new();
                let depth = path.strip_prefix(&self.root).map_or(0, |below| below.components().count());
                self.descend(&path, depth, &mut found);
                found.into_iter().map(Message::Changed).collect()
            }
        }
    }

    fn meaning(&self, event: &Event<std::ffi::OsString>) -> Meaning {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Meaning::Lost;
        }
        let (Some(directory), Some(name)) = (self.directories.get(&event.wd), &event.name) else {
            return Meaning::Nothing;
        };
        if event.mask.contains(EventMask::ISDIR) {
            let made = event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
            let path = directory.join(name);
            return match attachment(&self.root, &path) {
                _ if made => Meaning::NewDirectory(path),
                Some(id) => Meaning::Attachment(id),
                None => Meaning::Nothing,
            };
        }
        attachment(&self.root, directory).map_or(Meaning::Nothing, Meaning::Attachment)
    }

    /// Watches a directory and those below it; the attachments that are there go into `found`.
    fn descend(&mut self, directory: &Path, depth: usize, found: &mut Vec<AttachmentId>) {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::ONLYDIR;
        match self.watches.add(directory, mask) {
            Ok(watch) => drop(self.directories.insert(watch, directory.into())),
            // Gone again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(%error, "not all of the journal is watched: fs.inotify.max_user_watches may be too low");
            }
            Err(_) => {}
        }
        if depth == DEPTH {
            return found.extend(attachment(&self.root, directory));
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.descend(&entry.path(), depth + 1, found);
            }
        }
    }
}

/// The attachment whose directory this is.
fn attachment(root: &Path, directory: &Path) -> Option<AttachmentId> {
    let below = directory.strip_prefix(root).ok()?;
    let names: Vec<&str> = below.iter().map(|name| name.to_str()).collect::<Option<_>>()?;
    let [network, container, ifname] = names[..] else { return None };
    Some(AttachmentId {
        network: network.parse().ok()?,
        container: container.parse().ok()?,
        ifname: ifname.parse().ok()?,
    })
}
