//! Elements that several services may need: an endpoint that serves two of them is in the hairpin set once.

use std::collections::{HashMap, HashSet};

use zeugma_plan::nft::services::{Changes, Element};

/// Who needs what, and what is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    claims: HashMap<Element, u32>,
    present: HashSet<Element>,
    touched: HashSet<Element>,
}

impl Shared {
    /// Notes one that the kernel has.
    pub(crate) fn observed(&mut self, element: Element) {
        self.present.insert(element);
    }

    pub(crate) fn is_present(&self, element: &Element) -> bool {
        self.present.contains(element)
    }

    pub(crate) fn is_claimed(&self, element: &Element) -> bool {
        self.claims.contains_key(element)
    }

    pub(crate) fn claim(&mut self, element: Element) {
        *self.claims.entry(element.clone()).or_default() += 1;
        self.touched.insert(element);
    }

    pub(crate) fn release(&mut self, element: Element) {
        if let Some(count) = self.claims.get_mut(&element) {
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&element);
            }
        }
        self.touched.insert(element);
    }

    /// Also those go that were there before and that nobody asked for.
    pub(crate) fn touch_unclaimed(&mut self) {
        let unclaimed = self.present.iter().filter(|element| !self.claims.contains_key(*element));
        self.touched.extend(unclaimed.cloned());
    }

    /// Moves the net of all claims and releases into `changes`.
    pub(crate) fn settle(&mut self, changes: &mut Changes) {
        // Taken whole: after much was touched once, room for that is not kept.
        for element in std::mem::take(&mut self.touched) {
            match (self.claims.contains_key(&element), self.present.contains(&element)) {
                (true, false) => {
                    self.present.insert(element.clone());
                    changes.add.push(element);
                }
                (false, true) => {
                    self.present.remove(&element);
                    changes.delete.push(element);
                }
                (true, true) | (false, false) => {}
            }
        }
    }
}
