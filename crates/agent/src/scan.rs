//! The journal as the loop reads it: one attachment, or a list of all.

use std::fs;
use std::time::SystemTime;

use zeugma_journal::{Error, Journal};
use zeugma_model::AttachmentId;

use crate::desired::wish::Seen;
use crate::services::Attached;

/// What the journal says about an attachment now.
pub(crate) fn one(journal: &Journal, id: &AttachmentId) -> Result<(Seen, Option<Attached>), Error> {
    let entries = journal.entries(id)?;
    let about_names = entries.iter().rfind(|entry| entry.record.resolver.is_some());
    let changed = about_names.and_then(|entry| fs::metadata(&entry.path).ok()?.modified().ok());
    // A record that vanished since it was read is looked at again, as its removal is told, too.
    let seen = Seen::of(id, &entries, changed.unwrap_or(SystemTime::UNIX_EPOCH));
    Ok((seen, Attached::of(id, &entries)))
}

/// All attachments that it has.
pub(crate) fn list(journal: &Journal) -> Result<Vec<AttachmentId>, Error> {
    let mut ids = Vec::new();
    for network in journal.networks()? {
        ids.extend(journal.attachments(&network)?);
    }
    Ok(ids)
}
