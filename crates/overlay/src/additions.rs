//! Of the changes those that take nothing away: for who knows only what was so some time ago. All of them: plan.rs.

use std::collections::BTreeSet;

use zeugma_model::{IfName, Mac};

use crate::{Desired, Observed, Plan, plan};

/// What is desired and not there at all. What is there in its place, or beside it, stays: that may be newer. A device that
/// is another than it is to be stays as well.
pub fn additions(desired: &Desired, observed: &Observed) -> Plan {
    let all = plan(desired, observed);
    let mut plan = Plan {
        foreign: all.foreign,
        missing: all.missing,
        guard: all.guard,
        link: all.link,
        set: all.set,
        forward: all.forward,
        neighbour: all.neighbour,
        address: all.address,
        route: all.route,
        ..Plan::default()
    };
    let known: BTreeSet<(&IfName, Mac)> =
        observed.forwards.iter().map(|entry| (&entry.link, entry.mac)).collect();
    plan.link.retain(|name, _| !all.unlink.contains(name));
    plan.forward.retain(|entry| !known.contains(&(&entry.link, entry.mac)));
    plan.neighbour.retain(|key, _| !observed.neighbours.contains_key(key));
    plan.address.retain(|address| !observed.addresses.contains(address));
    plan.route.retain(|key, _| !observed.routes.contains_key(key));
    plan
}
