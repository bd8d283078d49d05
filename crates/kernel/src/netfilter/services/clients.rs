//! Clients that stay with an endpoint that is gone are taken out of the map that packets fill.

use std::collections::{BTreeSet, HashMap};

use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Frontend, Leave, Set, read_affinity};

use super::super::elements::Found;
use super::super::uapi::{DATA_VALUE, LIST_ELEMENT};
use super::message::{Kind, Transaction};
use super::{Programmer, elements, io, refused};
use crate::Error;

/// Elements of one transaction: few enough that hardly any times out meanwhile.
const PER_TRANSACTION: usize = 256;

impl Programmer {
    /// Lists the clients of a family once, however many frontends there are.
    pub(super) fn leave(&mut self, leave: &[Leave]) -> Result<(), Error> {
        for family in Family::ALL {
            let of_family = leave.iter().filter(|one| one.frontend.family() == family);
            let keep: HashMap<Frontend, BTreeSet<Backend>> =
                of_family.map(|one| (one.frontend, one.keep.iter().copied().collect())).collect();
            if keep.is_empty() {
                continue;
            }
            let is_to_leave = |found: &Found| {
                let entry = read_affinity(family, &found.key, found.data.as_deref().unwrap_or_default());
                entry.is_some_and(|(frontend, backend)| {
                    keep.get(&frontend).is_some_and(|keep| !keep.contains(&backend))
                })
            };
            let mut clients = Vec::new();
            self.dump(Set::Affinity(family), |found| clients.extend(found.into_iter().filter(is_to_leave)))?;
            for some in clients.chunks(PER_TRANSACTION) {
                self.delete_clients(family, some)?;
            }
        }
        Ok(())
    }

    /// One that timed out since it was listed makes the whole transaction fail: then each goes by itself.
    fn delete_clients(&mut self, family: Family, clients: &[Found]) -> Result<(), Error> {
        let mut transaction = Transaction::begin(&mut self.channel);
        transaction.push(Kind::DeleteElements, |message| {
            elements::header(message, Set::Affinity(family));
            message.nest(elements::LIST, |list| {
                for client in clients {
                    list.nest(LIST_ELEMENT, |element| {
                        element.nest(elements::KEY, |key| key.bytes(DATA_VALUE, &client.key));
                    });
                }
            });
        });
        match (transaction.commit().map_err(io)?, clients) {
            (Ok(()), _) => Ok(()),
            (Err(refusal), [_]) if refusal.errno == libc::ENOENT => Ok(()),
            (Err(refusal), _) if refusal.errno == libc::ENOENT => {
                clients.chunks(1).try_for_each(|one| self.delete_clients(family, one))
            }
            (Err(refusal), _) => Err(refused("nft delete element", refusal)),
        }
    }
}
