//! How many want the same thing: it is wanted until the last of them goes.

use std::collections::BTreeMap;

/// Things and how often each was asked for.
#[derive(Debug)]
pub(super) struct Tally<T>(BTreeMap<T, usize>);

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Tally<T> {
    /// One more, or one less.
    pub(super) fn count(&mut self, thing: T, there: bool) {
        match self.0.get_mut(&thing) {
            Some(1) if !there => drop(self.0.remove(&thing)),
            Some(times) if there => *times += 1,
            Some(times) => *times -= 1,
            None if there => drop(self.0.insert(thing, 1)),
            None => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
