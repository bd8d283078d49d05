//! The least that makes a host what its journal says. Nothing is ever taken away but what bears our mark and is wrong:
//! what is left over is GC's.

mod elements;
mod links;

use std::net::IpAddr;

use zeugma_model::IfName;
use zeugma_plan::nft::TableFamily;
use zeugma_plan::{Plan, Step};

use crate::{Desired, Observed};

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// The ruleset first: while a port is not published its users are refused.
    pub plan: Plan,
    /// What only somebody else can mend.
    pub problems: Vec<Problem>,
}

impl Diff {
    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.problems.is_empty()
    }

    fn push(&mut self, step: Step) {
        self.plan.push_lasting(step);
    }
}

/// What a repair cannot mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A newer zeugma made the table.
    NewerTable {
        /// Its family.
        family: TableFamily,
        /// Its version.
        version: u32,
    },
    /// An element's key belongs to somebody else.
    Taken {
        /// Ours, as nft writes it.
        element: String,
        /// Whose comment the other one bears.
        owner: String,
    },
    /// The veth pair is gone, and the container's end with it.
    LinkGone {
        /// The host's end.
        name: IfName,
        /// Its mark.
        alias: String,
    },
    /// A bridge is gone that we did not make.
    BridgeGone(IfName),
    /// A link of somebody else has an address of ours.
    AddressMoved {
        /// The address.
        address: IpAddr,
        /// Who should have it.
        name: IfName,
        /// Who has it.
        other: IfName,
    },
    /// A link is not what it was.
    OtherLink {
        /// Its name.
        name: IfName,
        /// What it should be.
        wanted: String,
        /// What it is.
        there: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NewerTable { family, version } => write!(
                f,
                "table {family} zeugma is of version {version}, newer than {} of this zeugma: it is left as it is; \
                 use the newer zeugma",
                zeugma_plan::nft::VERSION
            ),
            Self::Taken { element, owner } => {
                write!(f, "{element} is missing, and its key is taken by {owner:?}: delete that element")
            }
            Self::LinkGone { name, alias } => {
                write!(f, "link {name} ({alias}) is gone, with the container's end: restart the container")
            }
            Self::AddressMoved { address, name, other } => {
                write!(f, "{address} of {name} is on {other}: remove it there, and it is put back")
            }
            Self::BridgeGone(name) => {
                write!(
                    f,
                    "bridge {name} is gone, and zeugma did not make it: whoever made it must do so again"
                )
            }
            Self::OtherLink { name, wanted, there } => {
                write!(f, "link {name} is {there} and not {wanted}: it is somebody else's and left as it is")
            }
        }
    }
}

/// Compares. Empty where they agree; applying the plan makes them agree but for the problems.
pub fn diff(desired: &Desired, observed: &Observed) -> Diff {
    let mut diff = Diff::default();
    if let Some(ruleset) = &observed.ruleset {
        elements::compare(&mut diff, desired, ruleset);
    }
    links::compare(&mut diff, desired, observed);
    diff.problems.sort();
    diff.problems.dedup();
    diff
}
