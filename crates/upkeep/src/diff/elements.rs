//! Tables and their elements, compared.

use std::collections::HashMap;

use zeugma_plan::nft::{Element, SetId, TableFamily, VERSION, Value, make_room};
use zeugma_plan::{FlowFilter, Mending, Step, claim_conflicts};

use super::{Diff, Problem};
use crate::desired::Publication;
use crate::{Desired, RulesetSeen};

/// Elements by what the kernel keeps apart.
type ByKey<'a> = HashMap<(SetId, &'a [Value]), &'a Element>;

/// What is to become of the elements of a table.
#[derive(Debug, Default)]
struct Changes {
    /// Of networks; wider ones take the place of narrower ones.
    share: Vec<Element>,
    create: Vec<Element>,
    /// Ours that lead elsewhere, and that let in whom an overlay no longer does.
    delete: Vec<Element>,
    stale: Vec<FlowFilter>,
    taken: Vec<Problem>,
}

pub(super) fn compare(diff: &mut Diff, desired: &Desired, observed: &RulesetSeen) {
    for family in [TableFamily::Inet, TableFamily::Bridge] {
        let present: Vec<&Element> =
            observed.elements.iter().filter(|element| element.set.table() == family).collect();
        let changes = changes(family, desired, &present);
        match observed.tables.get(&family) {
            Some(table) if table.version > VERSION => {
                diff.problems.push(Problem::NewerTable { family, version: table.version });
            }
            Some(table) if table.version < VERSION || table.is_obstructed => {
                replace(diff, family, changes, &present);
            }
            Some(table) => {
                if !table.lacks.is_empty() {
                    diff.push(Step::MendTable(family, Mending::Complete, Vec::new()));
                }
                change(diff, changes);
            }
            None if changes.share.is_empty() && changes.create.is_empty() => {}
            None => {
                let mut all = changes.share;
                all.extend(changes.create);
                all.sort();
                diff.push(Step::MendTable(family, Mending::Complete, all));
                forget(diff, changes.stale);
            }
        }
    }
}

fn change(diff: &mut Diff, changes: Changes) {
    for (elements, step) in [
        (changes.delete, Step::DeleteElements as fn(Vec<Element>) -> Step),
        (changes.share, Step::ShareElements),
        (changes.create, Step::CreateElements),
    ] {
        if !elements.is_empty() {
            diff.push(step(elements));
        }
    }
    forget(diff, changes.stale);
    diff.problems.extend(changes.taken);
}

fn forget(diff: &mut Diff, stale: Vec<FlowFilter>) {
    if !stale.is_empty() {
        diff.push(Step::FlushFlows(stale));
    }
}

/// One transaction takes all over that is in the table, whosever, and puts right what is wrong.
fn replace(diff: &mut Diff, family: TableFamily, changes: Changes, present: &[&Element]) {
    let stay = present.iter().filter(|element| !changes.delete.contains(element));
    let room = make_room(&changes.share, &stay.map(|element| (*element).clone()).collect::<Vec<_>>());
    let stays = |element: &&&Element| !room.delete.contains(element) && !changes.delete.contains(element);
    let mut all: Vec<Element> = present.iter().filter(stays).map(|element| (*element).clone()).collect();
    all.extend(room.add);
    all.extend(changes.create);
    all.sort();
    diff.push(Step::MendTable(family, Mending::Replace, all));
    forget(diff, changes.stale);
    diff.problems.extend(changes.taken);
}

fn changes(family: TableFamily, desired: &Desired, present: &[&Element]) -> Changes {
    let is_of = |element: &&Element| element.set.table() == family;
    let by_key: ByKey<'_> =
        present.iter().map(|element| ((element.set, element.key.as_slice()), *element)).collect();
    let shared: Vec<Element> = desired.shared.iter().filter(is_of).cloned().collect();
    let (revoked, present): (Vec<&Element>, Vec<&Element>) =
        present.iter().copied().partition(|element| is_revoked(element, desired));
    let share = missing_shared(&shared, &present);
    let delete = revoked.into_iter().cloned().collect();
    let mut changes = Changes { share, delete, ..Changes::default() };
    for element in desired.owned.iter().filter(is_of) {
        changes.need(element, &by_key);
    }
    if family == TableFamily::Inet {
        for publications in desired.ports.values() {
            changes.publish(publications, &by_key);
        }
    }
    changes.share.sort();
    changes.create.sort();
    changes
}

/// Whether it lets somebody into an overlay whose state no longer has that.
fn is_revoked(element: &Element, desired: &Desired) -> bool {
    let is_wanted = |other: &Element| (other.set, &other.key) == (element.set, &element.key);
    matches!(element.set, SetId::Reachable(_))
        && desired.overlays.contains(&element.owner)
        && !desired.shared.iter().any(is_wanted)
}

/// Those that no element covers; of those that overlap, the widest.
fn missing_shared(wanted: &[Element], present: &[&Element]) -> Vec<Element> {
    // Where all are there as they are, nothing needs to be weighed against anything.
    let known: std::collections::HashSet<(SetId, &[Value])> =
        present.iter().map(|element| (element.set, element.key.as_slice())).collect();
    let absent: Vec<Element> = wanted
        .iter()
        .filter(|element| !known.contains(&(element.set, element.key.as_slice())))
        .cloned()
        .collect();
    if absent.is_empty() {
        return absent;
    }
    let networks: Vec<Element> = present
        .iter()
        .filter(|element| SetId::shared().contains(&element.set))
        .map(|element| (*element).clone())
        .collect();
    let added = make_room(&absent, &networks).add;
    let widest = |element: &&Element| {
        !added.iter().any(|other| other != *element && zeugma_plan::nft::covers(other, element))
    };
    added.iter().filter(widest).cloned().collect()
}

impl Changes {
    /// True when the element is there, or will be.
    fn need(&mut self, element: &Element, present: &ByKey<'_>) -> bool {
        match present.get(&(element.set, element.key.as_slice())) {
            Some(there) if there.owner != element.owner => {
                let (element, owner) = (element.to_string(), there.owner.clone());
                self.taken.push(Problem::Taken { element, owner });
                false
            }
            Some(there) if there.data == element.data => true,
            Some(there) => {
                self.delete.push((*there).clone());
                self.create.push(element.clone());
                true
            }
            None => {
                self.create.push(element.clone());
                true
            }
        }
    }

    /// Of claims in one another's way the one that has the port keeps it; where none has it, the first gets it.
    fn publish(&mut self, publications: &[Publication], present: &ByKey<'_>) {
        let is_there = |one: &Publication| {
            present
                .get(&(one.element.set, one.element.key.as_slice()))
                .is_some_and(|there| **there == one.element)
        };
        let mut granted: Vec<&Publication> = publications.iter().filter(|one| is_there(one)).collect();
        for one in publications.iter().filter(|one| !is_there(one)) {
            let is_held = granted.iter().any(|other| {
                other.element.owner != one.element.owner && claim_conflicts(other.place, one.place)
            });
            if !is_held && self.need(&one.element, present) {
                granted.push(one);
                self.stale.extend(one.stale.iter().cloned());
            }
        }
    }
}
