//! Reads the whole journal again and again: directories that did not change since are not listed again.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, SystemTime};

use zeugma_model::{AttachmentId, ContainerId};

use crate::store::{position, read_of};
use crate::{Error, Journal, Record, boot_id, files};

/// A directory may change again without another time for as long as the file system's clock stands still; that is far
/// less than this.
const SETTLED: Duration = Duration::from_secs(2);

/// Whoever compares the journal with something else, as often as need be.
#[derive(Debug)]
pub struct Reader {
    journal: Journal,
    /// Plugins whose records are read.
    wanted: &'static [&'static str],
    /// Directories by their paths' hashes.
    known: HashMap<u64, Known>,
    round: u64,
}

/// What a directory had, at a time of its own.
#[derive(Debug)]
struct Known {
    modified: SystemTime,
    names: Box<[Box<str>]>,
    round: u64,
}

impl Reader {
    /// For the records of some plugins.
    pub fn new(journal: Journal, wanted: &'static [&'static str]) -> Self {
        Self { journal, wanted, known: HashMap::new(), round: 0 }
    }

    /// Reads the wanted records of all attachments of this host, one after the other, in the order of names and plugins.
    /// Returns why some cannot be read, which does not keep anybody from the rest.
    ///
    /// # Errors
    /// When directories cannot be listed: then nobody knows what there is.
    pub fn each(&mut self, mut take: impl FnMut(AttachmentId, Record)) -> Result<Vec<Error>, Error> {
        let boot = boot_id()?;
        let mut unread = Vec::new();
        self.round += 1;
        for network in self.journal.networks()? {
            let of_network = self.journal.root.join(network.as_str());
            for container in files::names(&of_network)? {
                let of_container = of_network.join(&container);
                let Ok(container) = container.parse::<ContainerId>() else { continue };
                for ifname in self.names(&of_container, |_| true)? {
                    let directory = of_container.join(&*ifname);
                    let Ok(ifname) = ifname.parse() else { continue };
                    let id = AttachmentId { network: network.clone(), container: container.clone(), ifname };
                    let wanted = self.wanted;
                    for name in self.names(&directory, |name| is_of(wanted, name))? {
                        match read_of(directory.join(&*name), &boot) {
                            Ok(Some(entry)) => take(id.clone(), entry.record),
                            Ok(None) => {}
                            Err(error) => unread.push(error),
                        }
                    }
                }
            }
        }
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        Ok(unread)
    }

    /// The wanted names in a directory, sorted.
    fn names(
        &mut self,
        directory: &Path,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Box<[Box<str>]>, Error> {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        let key = hasher.finish();
        let modified = fs::metadata(directory).and_then(|about| about.modified()).ok();
        if let Some(known) = self.known.get_mut(&key).filter(|known| Some(known.modified) == modified) {
            known.round = self.round;
            return Ok(known.names.clone());
        }
        let names: Box<[Box<str>]> =
            files::names(directory)?.into_iter().filter(|name| is_wanted(name)).map(Into::into).collect();
        let is_settled = |modified: &SystemTime| modified.elapsed().is_ok_and(|age| age > SETTLED);
        if let Some(modified) = modified.filter(is_settled) {
            self.known.insert(key, Known { modified, names: names.clone(), round: self.round });
        }
        Ok(names)
    }
}

fn is_of(plugins: &[&str], name: &str) -> bool {
    position(name).is_some() && name.split_once('-').is_some_and(|(_, plugin)| plugins.contains(&plugin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(container: &str) -> AttachmentId {
        AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    fn read(reader: &mut Reader) -> Vec<String> {
        let mut all = Vec::new();
        let unread =
            reader.each(|id, record| all.push(format!("{} {}", id.container, record.plugin))).unwrap();
        all.extend(unread.iter().map(ToString::to_string));
        all
    }

    /// As if nobody had touched anything for a minute.
    fn age(directory: &Path) {
        let then = SystemTime::now() - Duration::from_secs(60);
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                age(&entry);
            }
        }
        fs::File::open(directory).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn what_came_and_went_since_the_last_time_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let begin = |container: &str, plugin: &str| {
            journal.begin(&id(container), Record { plugin: plugin.into(), ..Record::default() }).unwrap()
        };
        begin("a", "bridge");
        let gone = begin("b", "bridge");
        age(directory.path());
        let mut reader = Reader::new(journal.clone(), &["bridge", "portmap"]);
        for _ in 0..2 {
            assert_eq!(read(&mut reader), ["a bridge", "b bridge"]);
        }
        assert_eq!(reader.known.len(), 4);
        begin("a", "portmap");
        begin("a", "resolver");
        journal.remove(&gone).unwrap();
        assert_eq!(read(&mut reader), ["a bridge", "a portmap"]);
        assert_eq!(reader.known.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let begin = |plugin: &str| {
            journal.begin(&id("a"), Record { plugin: plugin.into(), ..Record::default() }).unwrap()
        };
        let (spoilt, odd) = (begin("bridge").path, begin("bridge").path);
        fs::write(spoilt, "{").unwrap();
        fs::remove_file(&odd).unwrap();
        fs::create_dir(odd).unwrap();
        begin("portmap");
        let told = read(&mut Reader::new(journal, &["bridge", "portmap"]));
        assert_eq!((told.len(), told[0].as_str()), (3, "a portmap"));
        assert!(told[1].contains("00-bridge") && told[2].contains("01-bridge"), "{told:?}");
    }

    #[test]
    fn a_directory_that_has_just_changed_is_listed_again() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        journal.begin(&id("a"), Record { plugin: "bridge".into(), ..Record::default() }).unwrap();
        let mut reader = Reader::new(journal, &["bridge"]);
        assert_eq!(read(&mut reader), ["a bridge"]);
        assert!(reader.known.is_empty());
    }
}
