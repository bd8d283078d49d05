//! The record of an ADD: written before the kernel is touched, and again when all is done. What it says is the plan's.

use zeugma_journal::{Entry, Journal, Lock, Record};
use zeugma_kernel::Kernel;
use zeugma_plan::Plan;
use zeugma_skel::Request;

use super::Kind;
use crate::cause::Cause;
use crate::{ipam, shared};

/// The record of an ADD under way. No GC takes what it shares for a leftover before it ends.
pub(super) struct Written {
    pub(super) journal: Journal,
    pub(super) entry: Entry,
    _sharing: Lock,
}

impl Written {
    pub(super) fn begin<K: Kind>(request: &Request, record: Record) -> Result<Self, Cause> {
        let journal = Journal::default();
        let sharing = Lock::sharing()?;
        let entry = journal.begin(&request.attachment(), completed::<K>(request, record)?)?;
        Ok(Self { journal, entry, _sharing: sharing })
    }

    pub(super) fn apply<K: Kind>(
        &mut self,
        kernel: &mut Kernel,
        request: &Request,
        config: &K::Config,
        plan: &Plan,
    ) -> Result<(), K::Error> {
        if let Err(error) = kernel.apply(plan) {
            // The kernel's refusal is the one to tell.
            let _ = self.journal.remove(&self.entry);
            return Err(K::explained(error, request, config));
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, kernel: &mut Kernel, plan: &Plan) -> Result<(), Cause> {
        if let Err(error) = self.journal.finish(&mut self.entry) {
            shared::take_back(kernel, plan);
            self.journal.remove(&self.entry)?;
            return Err(error.into());
        }
        Ok(())
    }
}

/// The plan's record with what no plan needs.
pub(super) fn completed<K: Kind>(request: &Request, record: Record) -> Result<Record, Cause> {
    let ipam = ipam::type_of(&request.conf).map(str::to_owned);
    Ok(Record { plugin: K::NAME.into(), ipam, identity: request.identity()?, ..record })
}
