//! A service's frontends in little memory: most have one or two, and there are tens of thousands of services.

use zeugma_plan::nft::services::Frontend;

use crate::programmed::Spread;

/// Frontends in order, each with how its flows are spread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frontends(Vec<(Frontend, Spread)>);

impl Frontends {
    pub(crate) fn get(&self, frontend: &Frontend) -> Option<&Spread> {
        self.place(frontend).ok().map(|place| &self.0[place].1)
    }

    pub(crate) fn contains(&self, frontend: &Frontend) -> bool {
        self.place(frontend).is_ok()
    }

    /// Takes the place of an earlier one.
    pub(crate) fn insert(&mut self, frontend: Frontend, spread: Spread) {
        match self.place(&frontend) {
            Ok(place) => self.0[place].1 = spread,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (frontend, spread));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Frontend, &Spread)> {
        self.0.iter().map(|(frontend, spread)| (frontend, spread))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, frontend: &Frontend) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.cmp(frontend))
    }
}
