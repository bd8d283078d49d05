//! Plans: steps in order, each with what undoes it. What a step is: step.rs.

use crate::nft::Element;
use crate::{Link, LinkKind, Move, Side, Step};

/// Steps in the order they are applied, each with what undoes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<(Step, Option<Step>)>,
}

impl Plan {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a step that its own kind undoes: links, rules and elements that it made.
    pub fn push(&mut self, step: Step) {
        let undo = inverse(&step);
        self.steps.push((step, undo));
    }

    /// Appends a step with what undoes it.
    pub fn push_with_undo(&mut self, step: Step, undo: Step) {
        self.steps.push((step, Some(undo)));
    }

    /// Appends a step that stays even when a later one fails.
    pub fn push_lasting(&mut self, step: Step) {
        self.steps.push((step, None));
    }

    /// This plan, and the other one behind it.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.steps.extend(next.steps);
        self
    }

    /// Drops the steps of a side that is not there.
    pub fn leave_alone(&mut self, side: Side) {
        self.steps.retain(|(step, _)| step.side() != side);
    }

    /// Drops a step.
    pub fn leave_out_step(&mut self, unwanted: &Step) {
        self.steps.retain(|(step, _)| step != unwanted);
    }

    /// Drops elements from the steps that create them.
    pub fn leave_out(&mut self, unwanted: &[Element]) {
        for (step, undo) in &mut self.steps {
            for part in [Some(step), undo.as_mut()].into_iter().flatten() {
                if let Step::CreateElements(elements) | Step::DeleteElements(elements) = part {
                    elements.retain(|element| !unwanted.contains(element));
                }
            }
        }
    }

    /// The steps in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter().map(|(step, _)| step)
    }

    /// What undoes the steps whose positions are in `done`, last first.
    pub fn undo_of(&self, done: &[usize]) -> Vec<Step> {
        let mut positions = done.to_vec();
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions.dedup();
        positions.iter().filter_map(|position| self.steps.get(*position)?.1.clone()).collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl FromIterator<Step> for Plan {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        let mut plan = Self::new();
        steps.into_iter().for_each(|step| plan.push(step));
        plan
    }
}

/// What takes a step back, for the kinds where the step alone tells.
fn inverse(step: &Step) -> Option<Step> {
    match step {
        Step::CreateLink(Link { kind: LinkKind::Bridge { .. }, .. }) => None,
        Step::CreateLink(Link { side, name, .. }) => Some(Step::DeleteLink(*side, name.clone())),
        Step::CreateTap(tap) => Some(Step::DeleteLink(Side::Container, tap.name.clone())),
        Step::MoveLink(Move { from, name, to, new_name }) => Some(Step::MoveLink(Move {
            from: *to,
            name: new_name.clone(),
            to: *from,
            new_name: name.clone(),
        })),
        Step::RenameLink(side, from, to) => Some(Step::RenameLink(*side, to.clone(), from.clone())),
        Step::CreateElements(elements) => Some(Step::DeleteElements(elements.clone())),
        Step::Shape(name, _) => Some(Step::Unshape(name.clone())),
        Step::Redirect(from, _) => Some(Step::EndRedirect(from.clone())),
        Step::RedirectDns(_) => Some(Step::EndRedirectDns),
        Step::AddAddress(side, name, address, _) => Some(Step::DeleteAddress(*side, name.clone(), *address)),
        Step::AddRule(side, rule) => Some(Step::DeleteRule(*side, *rule)),
        Step::AddRoute(side, route) => Some(Step::DeleteRoute(*side, route.clone())),
        Step::SetLink(..)
        | Step::DeleteLink(..)
        | Step::SetPortVlans(..)
        | Step::AwaitCarrier(..)
        | Step::DeleteUnusedBridge(_)
        | Step::DeleteAddress(..)
        | Step::DeleteRoute(..)
        | Step::Unshape(_)
        | Step::EndRedirect(_)
        | Step::EndRedirectDns
        | Step::DeleteRule(..)
        | Step::SetSysctl(..)
        | Step::ShareElements(_)
        | Step::DeleteElements(_)
        | Step::UnshareElements(_)
        | Step::MendTable(..)
        | Step::DeleteTables
        | Step::FlushFlows(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;
    use zeugma_model::IfName;

    use super::*;
    use crate::{AddressFlags, LinkChange};

    #[test]
    fn undo_runs_backwards_and_leaves_what_lasts() {
        let name: IfName = "veth0".parse().unwrap();
        let address: IpNetwork = "10.1.0.1/16".parse().unwrap();
        let mut plan = Plan::new();
        plan.push_lasting(Step::AddAddress(Side::Host, name.clone(), address, AddressFlags::default()));
        plan.push(Step::AddAddress(Side::Container, name.clone(), address, AddressFlags::default()));
        plan.push_with_undo(
            Step::SetLink(Side::Host, name.clone(), LinkChange { up: Some(true), ..Default::default() }),
            Step::SetLink(Side::Host, name.clone(), LinkChange { up: Some(false), ..Default::default() }),
        );
        let undo = plan.undo_of(&[0, 1, 2]);
        assert_eq!(undo.len(), 2);
        assert!(
            matches!(undo[0], Step::SetLink(..))
                && matches!(undo[1], Step::DeleteAddress(Side::Container, ..))
        );
    }
}
