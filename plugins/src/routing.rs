//! What `sbr` and `vrf` share: their turn in a namespace, tables that nobody uses, and an ADD that is all or nothing. Which routes go where is theirs.

use std::collections::BTreeSet;

use zeugma_journal::{Journal, Lock, Record};
use zeugma_kernel::{Kernel, NetnsId};
use zeugma_model::AttachmentId;
use zeugma_plan::Plan;
use zeugma_skel::Request;

use crate::cause::Cause;
use crate::{sandbox, shared};

/// `RT_TABLE_MAIN`.
pub(crate) const MAIN: u32 = 254;
/// `RT_TABLE_DEFAULT`, main and `RT_TABLE_LOCAL`: the kernel's own.
const RESERVED: std::ops::RangeInclusive<u32> = 253..=255;

/// The container that the runtime names.
pub(crate) fn container(request: &Request) -> Result<Kernel, zeugma_kernel::Error> {
    let path = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
    Kernel::with_container(path)
}

/// Whether an attachment without a record may be the reference's: the runtime knows the result of its ADD, and none of
/// our plugins has a part in it. Where one has, our ADD of this plugin was refused, or is deleted already, and what is
/// found is somebody else's.
pub(crate) fn may_be_the_reference_s(journal: &Journal, request: &Request) -> Result<bool, Cause> {
    Ok(request.conf.prev_result.is_some() && journal.entries(&request.attachment())?.is_empty())
}

/// Keeps other plugins from choosing tables in the same namespace. The lock is the host's, not the namespace's own
/// file: that one could be held by the container.
///
/// # Errors
/// When another one takes longer than anybody waits.
pub(crate) fn alone(kernel: &Kernel) -> Result<Lock, Cause> {
    let NetnsId { device, inode } = kernel.container_id().ok_or(zeugma_kernel::Error::NoContainer)?;
    Ok(Lock::transient(&format!("netns-{device}-{inode}"))?)
}

/// The first table from `first` on that is not taken.
pub(crate) fn free_table(taken: &BTreeSet<u32>, first: u32) -> Option<u32> {
    (first..u32::MAX).find(|table| !taken.contains(table) && !RESERVED.contains(table))
}

/// Applies the plan of an ADD between the two writings of its record; a failure leaves neither.
pub(crate) fn apply(
    kernel: &mut Kernel,
    attachment: &AttachmentId,
    record: Record,
    plan: &Plan,
) -> Result<(), Cause> {
    let journal = Journal::default();
    let netns = record.netns.as_ref().and_then(|netns| sandbox::noted(kernel, Some(&netns.path)));
    let mut entry = journal.begin(attachment, Record { netns, ..record })?;
    if let Err(error) = kernel.apply(plan) {
        // The kernel's refusal is the one to tell.
        let _ = journal.remove(&entry);
        return Err(error.into());
    }
    if let Err(error) = journal.finish(&mut entry) {
        shared::take_back(kernel, plan);
        journal.remove(&entry)?;
        return Err(error.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_and_reserved_tables_are_passed_over() {
        assert_eq!(free_table(&BTreeSet::new(), 100), Some(100));
        assert_eq!(free_table(&BTreeSet::from([1, 2, 100, 101, 103]), 100), Some(102));
        assert_eq!(free_table(&BTreeSet::from([252]), 252), Some(256));
    }
}
