//! The mode that all ipvlans of a parent have agreed on. The kernel gives all of them the latest one's, without a
//! word, so an ADD with another mode would change containers that run.
//!
//! A file per parent below the run directory. It outlives the last ipvlan, until GC or an ADD with another mode looks
//! whether the journal knows of one.

use std::path::PathBuf;

use zeugma_journal::{Journal, files, run_dir};
use zeugma_model::IfName;
use zeugma_plan::IpvlanMode;

use crate::cause::Cause;
use crate::interface::Error;

fn file(parent: &IfName) -> PathBuf {
    run_dir().join("ipvlan").join(parent.as_str())
}

/// Agrees on `mode`, or says what was agreed on before.
pub(super) fn agree(parent: &IfName, mode: IpvlanMode) -> Result<(), Error> {
    let has = files::read(&file(parent))?.map(|has| String::from_utf8_lossy(&has).into_owned());
    match has {
        Some(has) if has == mode.to_string() => Ok(()),
        Some(has) if is_used(&Journal::default(), parent)? => {
            Err(Error::OtherMode { master: parent.clone(), has })
        }
        _ => Ok(files::replace(&file(parent), mode.to_string().as_bytes())?),
    }
}

/// Forgets what was agreed on for a parent without ipvlans.
pub(super) fn retire(journal: &Journal, parent: &IfName) -> Result<(), Cause> {
    if !is_used(journal, parent)? {
        files::remove(&file(parent))?;
    }
    Ok(())
}

/// Whether a container has an ipvlan of this parent.
fn is_used(journal: &Journal, parent: &IfName) -> Result<bool, Cause> {
    for network in journal.networks()? {
        for attachment in journal.attachments(&network)? {
            let entries = journal.entries(&attachment)?;
            let records = entries.iter().map(|entry| &entry.record);
            if records
                .clone()
                .any(|record| record.plugin == "ipvlan" && record.parent.as_ref() == Some(parent))
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
