//! One zone's file: read, and read again when it is another than before.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::rr::{LowerName, Name};

use super::ZoneError;
use super::handler::Zone;
use super::master;
use crate::mark::Mark;

/// Longer files are not read.
const BYTES: u64 = 4 << 20;

/// A zone of the operator's and where its records are: `ORIGIN=FILE` as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFile {
    origin: Name,
    path: PathBuf,
}

impl FromStr for ZoneFile {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let form = || ZoneError::Form(text.to_owned());
        let (origin, path) = text.split_once('=').ok_or_else(form)?;
        let mut origin = Name::from_ascii(origin).map_err(|_| form())?;
        origin.set_fqdn(true);
        // Whoever serves the root answers for the whole world.
        if origin.is_root() || path.is_empty() {
            return Err(form());
        }
        Ok(Self { origin, path: path.into() })
    }
}

impl ZoneFile {
    pub(super) fn origin(&self) -> LowerName {
        LowerName::from(&self.origin)
    }

    fn read(&self) -> Result<Zone, ZoneError> {
        let path = || self.path.clone();
        let text = self.text().map_err(|source| ZoneError::Read { path: path(), source })?;
        if text.len() as u64 > BYTES {
            return Err(ZoneError::Long { path: path(), limit: BYTES });
        }
        let records = master::parse(&text, &self.origin, master::RECORDS)
            .map_err(|wrong| ZoneError::Entry { path: path(), line: wrong.line, reason: wrong.reason })?;
        let no_soa = || ZoneError::NoSoa { path: path(), origin: self.origin.to_string() };
        Zone::new(self.origin.clone(), records).ok_or_else(no_soa)
    }

    fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        File::open(&self.path)?.take(BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// A file as it was read last.
pub(super) struct Source {
    pub(super) file: ZoneFile,
    pub(super) zone: Arc<Zone>,
    mark: Option<Mark>,
    /// What is wrong with the file as it is now; `zone` is what it was before.
    pub(super) problem: Option<String>,
}

impl Source {
    pub(super) fn open(file: ZoneFile) -> Result<Self, ZoneError> {
        // Before it is read: what changes meanwhile is seen next time.
        let mark = Mark::of(&file.path);
        let zone = Arc::new(file.read()?);
        Ok(Self { file, zone, mark, problem: None })
    }

    /// Whether there is another zone than before.
    pub(super) fn look(&mut self) -> bool {
        let mark = Mark::of(&self.file.path);
        if mark.is_some() && mark == self.mark {
            return false;
        }
        self.mark = mark;
        let problem = match self.file.read() {
            Ok(zone) => {
                self.zone = Arc::new(zone);
                self.problem = None;
                tracing::info!(zone = %self.file.origin, path = %self.file.path.display(), "read again");
                return true;
            }
            Err(error) => format!("{error}; the zone {} is served as it was before", self.file.origin),
        };
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!("{problem}");
            self.problem = Some(problem);
        }
        false
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}
