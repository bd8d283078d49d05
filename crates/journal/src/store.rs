//! The journal's files: `attachments/<network>/<containerID>/<ifname>/<position>-<plugin>`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use zeugma_model::{AttachmentId, ContainerId, NetworkName};

use crate::{Error, Phase, Record, files, run_dir};

/// The plugin whose records name overlays.
const OVERLAY: &str = "overlay";

/// Attachments by the overlays that they are on.
pub type OnOverlays = BTreeMap<NetworkName, BTreeSet<AttachmentId>>;

/// The attachments of this host.
#[derive(Debug, Clone)]
pub struct Journal {
    pub(crate) root: PathBuf,
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub record: Record,
}

impl Default for Journal {
    fn default() -> Self {
        Self { root: run_dir().join("attachments") }
    }
}

impl Journal {
    /// The journal below another run directory than the usual one.
    pub fn at(run_dir: &Path) -> Self {
        Self { root: run_dir.join("attachments") }
    }

    /// Writes down what a plugin is about to do, behind what the plugins before it did.
    pub fn begin(&self, id: &AttachmentId, mut record: Record) -> Result<Entry, Error> {
        let directory = self.directory(id);
        let next = files::names(&directory)?
            .iter()
            .filter_map(|name| position(name))
            .max()
            .map_or(0, |last| last + 1);
        let path = directory.join(format!("{next:02}-{}", record.plugin));
        record.phase = Phase::Intent;
        record.boot = boot_id()?;
        let entry = Entry { path, record };
        write(&entry)?;
        Ok(entry)
    }

    /// Writes down that it is done.
    pub fn finish(&self, entry: &mut Entry) -> Result<(), Error> {
        entry.record.phase = Phase::Done;
        write(entry)
    }

    /// Writes an entry again after its record has learned more.
    pub fn update(&self, entry: &Entry) -> Result<(), Error> {
        write(entry)
    }

    /// Everything known of an attachment, in the order of the plugins. Records of another boot are nothing.
    pub fn entries(&self, id: &AttachmentId) -> Result<Vec<Entry>, Error> {
        let directory = self.directory(id);
        let mut entries = Vec::new();
        for name in files::names(&directory)? {
            if position(&name).is_none() {
                continue;
            }
            entries.extend(read(directory.join(name))?);
        }
        Ok(entries)
    }

    /// The last entry of a plugin: the one that its DEL undoes.
    pub fn last(&self, id: &AttachmentId, plugin: &str) -> Result<Option<Entry>, Error> {
        Ok(self.entries(id)?.into_iter().rfind(|entry| entry.record.plugin == plugin))
    }

    /// Removes an entry, and the directories that it leaves empty.
    pub fn remove(&self, entry: &Entry) -> Result<(), Error> {
        files::remove(&entry.path)?;
        self.prune(entry.path.parent());
        Ok(())
    }

    /// Removes what killed writers left of an attachment: unfinished files, and directories that are empty then.
    pub fn tidy(&self, id: &AttachmentId) -> Result<(), Error> {
        let directory = self.directory(id);
        for name in files::names(&directory)?.iter().filter(|name| name.ends_with(".partial")) {
            files::remove(&directory.join(name))?;
        }
        self.prune(Some(&directory));
        Ok(())
    }

    /// Removes empty directories from here up to the root.
    fn prune(&self, from: Option<&Path>) {
        let below_root = |path: &&Path| **path != self.root && path.starts_with(&self.root);
        for path in from.into_iter().flat_map(Path::ancestors).take_while(below_root) {
            let removed = fs::remove_dir(path);
            // Not empty: somebody else is there.
            if removed.is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
                break;
            }
        }
    }

    /// The attachments of a network.
    pub fn attachments(&self, network: &NetworkName) -> Result<Vec<AttachmentId>, Error> {
        let root = self.root.join(network.as_str());
        let mut found = Vec::new();
        for container in files::names(&root)? {
            for ifname in files::names(&root.join(&container))? {
                let (Ok(container), Ok(ifname)) = (container.parse(), ifname.parse()) else { continue };
                found.push(AttachmentId { network: network.clone(), container, ifname });
            }
        }
        Ok(found)
    }

    /// The attachments of a container to all its networks.
    pub fn attachments_of(&self, container: &ContainerId) -> Result<Vec<AttachmentId>, Error> {
        let mut found = Vec::new();
        for network in self.networks()? {
            let directory = self.root.join(network.as_str()).join(container.as_str());
            for ifname in files::names(&directory)?.iter().filter_map(|name| name.parse().ok()) {
                found.push(AttachmentId { network: network.clone(), container: container.clone(), ifname });
            }
        }
        Ok(found)
    }

    /// The attachments by networks: their lists', and the overlays that their records name, which may be called otherwise. A
    /// record that is spoilt, or not written yet, counts for the list's network.
    ///
    /// # Errors
    /// [`Error::File`]: then nobody knows what there is.
    pub fn on_overlays(&self) -> Result<OnOverlays, Error> {
        let (boot, mut found) = (boot_id()?, OnOverlays::new());
        for list in self.networks()? {
            for id in self.attachments(&list)? {
                for overlay in self.overlays_of(&id, &boot)? {
                    found.entry(overlay).or_default().insert(id.clone());
                }
                found.entry(list.clone()).or_default().insert(id);
            }
        }
        Ok(found)
    }

    /// The attachments of a network, and those of lists of other names to the overlay of this name.
    ///
    /// # Errors
    /// As [`Journal::on_overlays`].
    pub fn attached_to(&self, network: &NetworkName) -> Result<BTreeSet<AttachmentId>, Error> {
        Ok(self.on_overlays()?.remove(network).unwrap_or_default())
    }

    /// Other plugins' records are not read: whoever asks goes through all attachments of the host.
    fn overlays_of(&self, id: &AttachmentId, boot: &str) -> Result<Vec<NetworkName>, Error> {
        let (directory, mut found) = (self.directory(id), Vec::new());
        let is_its = |name: &&String| {
            position(name).is_some() && name.split_once('-').is_some_and(|(_, plugin)| plugin == OVERLAY)
        };
        for name in files::names(&directory)?.iter().filter(is_its) {
            match read_of(directory.join(name), boot) {
                Ok(entry) => found.extend(entry.and_then(|entry| entry.record.overlay).map(|of| of.network)),
                Err(Error::Record { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The networks that have attachments.
    pub fn networks(&self) -> Result<Vec<NetworkName>, Error> {
        Ok(files::names(&self.root)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Stands for what the journal says: another number when any record came, went or changed.
    pub fn stamp(&self) -> Result<u64, Error> {
        let mut hasher = DefaultHasher::new();
        for network in self.networks()? {
            for id in self.attachments(&network)? {
                let directory = self.directory(&id);
                // Records are renamed into place, which the directory's time tells.
                let modified = fs::metadata(&directory).and_then(|about| about.modified()).ok();
                (id, modified).hash(&mut hasher);
            }
        }
        Ok(hasher.finish())
    }

    fn directory(&self, id: &AttachmentId) -> PathBuf {
        let mut path = self.root.clone();
        path.extend([id.network.as_str(), id.container.as_str(), id.ifname.as_str()]);
        path
    }
}

/// The number before the first dash; none for files that are not records.
pub(crate) fn position(name: &str) -> Option<u32> {
    let (number, plugin) = name.split_once('-')?;
    if plugin.ends_with(".partial") { None } else { number.parse().ok() }
}

fn write(entry: &Entry) -> Result<(), Error> {
    let content = serde_json::to_vec(&entry.record)
        .map_err(|source| Error::Record { path: entry.path.clone(), source })?;
    files::replace(&entry.path, &content)
}

/// A record that somebody spoilt must not keep DEL and GC from the rest: it stands for a plugin that did
/// nothing we know of.
fn read(path: PathBuf) -> Result<Option<Entry>, Error> {
    match read_of(path, &boot_id()?) {
        Err(Error::Record { path, source }) => {
            let shown = path.display();
            eprintln!("zeugma: the journal record {shown} cannot be read and counts as empty: {source}");
            Ok(spoilt(path))
        }
        other => other,
    }
}

/// None for the record of another boot.
pub(crate) fn read_of(path: PathBuf, boot: &str) -> Result<Option<Entry>, Error> {
    let Some(bytes) = files::read(&path)? else { return Ok(None) };
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) => Ok((record.boot == boot).then_some(Entry { path, record })),
        Err(source) => Err(Error::Record { path, source }),
    }
}

fn spoilt(path: PathBuf) -> Option<Entry> {
    let plugin = path.file_name()?.to_str()?.split_once('-')?.1.to_owned();
    Some(Entry { record: Record { plugin, spoilt: true, ..Record::default() }, path })
}

/// The kernel's name of this boot.
pub fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(Error::file("read", path))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use zeugma_model::Identity;

    use super::*;

    fn id(container: &str) -> AttachmentId {
        AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    fn record(plugin: &str) -> Record {
        Record { plugin: plugin.into(), ..Record::default() }
    }

    #[test]
    fn plugins_stand_in_order_and_the_last_is_undone_first() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        for plugin in ["bridge", "tuning", "portmap", "tuning"] {
            let mut entry = journal.begin(&id("c"), record(plugin)).unwrap();
            journal.finish(&mut entry).unwrap();
        }
        let last = journal.last(&id("c"), "tuning").unwrap().unwrap();
        assert!(last.path.ends_with("03-tuning"), "{:?}", last.path);
        assert_eq!(last.record.phase, Phase::Done);
        journal.remove(&last).unwrap();
        assert!(journal.last(&id("c"), "tuning").unwrap().unwrap().path.ends_with("01-tuning"));
    }

    #[test]
    fn what_was_told_of_a_container_is_kept_and_nothing_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let identity = Identity { aliases: vec!["web".parse().unwrap()], ..Identity::default() };
        let told = Record { identity: identity.clone(), ..record("bridge") };
        let entry = journal.begin(&id("told"), told).unwrap();
        assert_eq!(journal.entries(&id("told")).unwrap()[0].record.identity, identity);
        let silent = journal.begin(&id("silent"), record("bridge")).unwrap();
        let mentions = |entry: &Entry| fs::read_to_string(&entry.path).unwrap().contains("identity");
        assert_eq!((mentions(&entry), mentions(&silent)), (true, false));
    }

    #[test]
    fn the_last_record_takes_its_directories_along() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let one = journal.begin(&id("one"), record("bridge")).unwrap();
        let two = journal.begin(&id("two"), record("bridge")).unwrap();
        journal.remove(&one).unwrap();
        assert_eq!(journal.attachments(&id("two").network).unwrap(), [id("two")]);
        journal.remove(&two).unwrap();
        assert!(journal.networks().unwrap().is_empty());
        journal.remove(&two).unwrap();
    }

    #[test]
    fn a_container_s_attachments_are_found_on_all_networks() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let on = |network: &str| AttachmentId { network: network.parse().unwrap(), ..id("c") };
        for attachment in [on("one"), on("two"), id("other")] {
            journal.begin(&attachment, record("bridge")).unwrap();
        }
        assert_eq!(journal.attachments_of(&id("c").container).unwrap(), [on("one"), on("two")]);
    }

    #[test]
    fn a_container_is_on_the_overlay_that_its_record_names() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let front: NetworkName = "front".parse().unwrap();
        let state = serde_json::json!({"network": "front", "backend": "vxlan", "subnets": ["10.90.0.0/16"],
            "blocks": ["10.90.3.0/24"], "mtu": 1450, "bridge": "br-front", "tunnel": "vx-front", "masquerade": true});
        let overlay = serde_json::from_value(state).unwrap();
        let told = Record { overlay: Some(overlay), ..record("overlay") };
        let entry = journal.begin(&id("c"), told).unwrap();
        journal.begin(&id("other"), record("bridge")).unwrap();
        assert_eq!(journal.attached_to(&front).unwrap(), [id("c")].into());
        assert_eq!(journal.attached_to(&id("c").network).unwrap(), [id("c"), id("other")].into());
        fs::write(&entry.path, b"{").unwrap();
        assert!(journal.attached_to(&front).unwrap().is_empty());
        assert_eq!(journal.attached_to(&id("c").network).unwrap().len(), 2);
    }

    #[test]
    fn the_stamp_changes_with_every_record() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let mut stamps = vec![journal.stamp().unwrap()];
        let mut entry = journal.begin(&id("c"), record("bridge")).unwrap();
        stamps.push(journal.stamp().unwrap());
        journal.finish(&mut entry).unwrap();
        stamps.push(journal.stamp().unwrap());
        journal.remove(&entry).unwrap();
        assert_eq!(journal.stamp().unwrap(), stamps[0]);
        stamps.dedup();
        assert_eq!(stamps.len(), 3);
    }

    #[test]
    fn records_of_another_boot_and_unfinished_files_are_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let mut entry = journal.begin(&id("c"), record("bridge")).unwrap();
        fs::write(entry.path.with_extension("7.partial"), b"{").unwrap();
        assert_eq!(journal.entries(&id("c")).unwrap().len(), 1);
        entry.record.boot = "another".into();
        journal.update(&entry).unwrap();
        assert!(journal.entries(&id("c")).unwrap().is_empty());
    }

    #[test]
    fn what_killed_writers_left_is_tidied_away() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let entry = journal.begin(&id("c"), record("bridge")).unwrap();
        fs::write(entry.path.with_extension("7.partial"), b"{").unwrap();
        journal.tidy(&id("c")).unwrap();
        assert_eq!(journal.entries(&id("c")).unwrap().len(), 1);
        fs::rename(&entry.path, entry.path.with_extension("7.partial")).unwrap();
        journal.tidy(&id("c")).unwrap();
        assert!(journal.networks().unwrap().is_empty());
        journal.tidy(&id("c")).unwrap();
    }

    #[test]
    fn a_spoilt_record_counts_as_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let entry = journal.begin(&id("c"), record("bridge")).unwrap();
        fs::write(&entry.path, b"{").unwrap();
        let spoilt = journal.last(&id("c"), "bridge").unwrap().unwrap();
        assert!(spoilt.record.spoilt && spoilt.record.host_veth.is_none());
        journal.remove(&spoilt).unwrap();
        assert!(journal.networks().unwrap().is_empty());
    }
}
