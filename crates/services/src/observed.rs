//! What the kernel has → what is programmed, after a restart: what is right is then not touched.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::ServiceName;
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Element, Frontend};

use crate::programmed::{Programmed, Spread};

/// A frontend's elements.
#[derive(Default)]
struct Parts {
    service: Option<(u32, bool, Arc<str>)>,
    slots: BTreeMap<u32, Backend>,
    spread: Spread,
}

impl Programmed {
    /// The state that these elements of the kernel make up. Who was draining is not in them.
    pub fn observed(elements: Vec<Element>) -> Self {
        let mut programmed = Self { is_adopted: true, ..Self::default() };
        let mut parts: HashMap<Frontend, Parts> = HashMap::new();
        for element in elements {
            match element {
                Element::Service(frontend, slots, is_sticky, name) => {
                    parts.entry(frontend).or_default().service = Some((slots, is_sticky, name));
                }
                Element::Affine(frontend, seconds) => {
                    parts.entry(frontend).or_default().spread.affinity = Some(seconds);
                }
                Element::Endpoint(frontend, slot, backend) => {
                    parts.entry(frontend).or_default().slots.insert(slot, backend);
                }
                Element::Vip(_) | Element::Port(..) | Element::Hairpin(_) => {
                    programmed.shared.observed(element)
                }
                Element::Direct(_)
                | Element::Local(_)
                | Element::Inside(_)
                | Element::Overlay(_)
                | Element::Within(..)
                | Element::Range(_) => {
                    programmed.ground.insert(element);
                }
            }
        }
        for (frontend, parts) in parts {
            programmed.adopt(frontend, parts);
        }
        programmed
    }

    /// What a service has stays at the next sync although nobody can say what it is to be, until somebody can. Of what
    /// was observed; says its virtual addresses, none when it has nothing.
    pub fn keep(&mut self, name: &ServiceName) -> Option<Vec<IpAddr>> {
        let (name, mut held) = self.services.remove_entry(name.as_str())?;
        for (frontend, spread) in held.frontends.iter() {
            match frontend.address.is_unspecified() {
                true => held.ports.push((Family::of(frontend.address), frontend.protocol, frontend.port)),
                false => held.vips.push(frontend.address),
            }
            let addresses = spread.slots.iter().map(|backend| backend.address);
            held.here.extend(addresses.filter(|one| self.shared.is_present(&Element::Hairpin(*one))));
        }
        held.vips.dedup();
        held.here.sort_unstable();
        held.here.dedup();
        let vips = held.vips.clone();
        held.shared().for_each(|element| self.shared.claim(element));
        self.services.insert(name.clone(), held);
        self.kept.insert(name);
        Some(vips)
    }

    /// A frontend that is whole belongs to its service. What is left of others goes at the next sync.
    fn adopt(&mut self, frontend: Frontend, mut parts: Parts) {
        let count = parts.slots.len() as u32;
        let is_whole = parts.slots.keys().copied().eq(0..count);
        match &parts.service {
            Some((slots, is_sticky, name))
                if is_whole
                    && *slots == count
                    && count > 0
                    && *is_sticky == parts.spread.affinity.is_some() =>
            {
                parts.spread.slots = parts.slots.into_values().collect();
                self.owners.insert(frontend, name.clone());
                self.services.entry(name.clone()).or_default().frontends.insert(frontend, parts.spread);
            }
            _ => self.stray.extend(parts.elements(frontend)),
        }
    }
}

impl Parts {
    fn elements(self, frontend: Frontend) -> Vec<Element> {
        let mut elements = Vec::new();
        let service = self.service;
        elements.extend(
            service.map(|(slots, is_sticky, name)| Element::Service(frontend, slots, is_sticky, name)),
        );
        let affinity = self.spread.affinity;
        elements.extend(affinity.map(|seconds| Element::Affine(frontend, seconds)));
        let slots = self.slots.into_iter();
        elements.extend(slots.map(|(slot, backend)| Element::Endpoint(frontend, slot, backend)));
        elements
    }
}
