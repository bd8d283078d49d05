//! Names with their revisions in little memory: a follower keeps hundreds of thousands, most of which begin alike.

use crate::Revision;

/// Names in a block at most: whoever changes one writes its block anew.
const FULL: usize = 32;

/// Names that were told, in order, each with its last revision.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// None is empty.
    blocks: Vec<Block>,
}

/// Some names in order. Of each: how many bytes it shares with the one before, how many it has besides, these, its
/// revision.
#[derive(Debug)]
struct Block(Box<[u8]>);

impl Told {
    /// Those, which are in order.
    pub(crate) fn new<'a>(sorted: impl IntoIterator<Item = (&'a str, Revision)>) -> Self {
        let mut blocks = blocks(sorted, FULL);
        blocks.shrink_to_fit();
        Self { blocks }
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, Revision)> {
        self.blocks.iter().flat_map(Block::names)
    }

    /// A name has this revision now.
    pub(crate) fn insert(&mut self, name: &str, revision: Revision) {
        self.set(name, Some(revision));
    }

    /// A name is gone.
    pub(crate) fn remove(&mut self, name: &str) {
        self.set(name, None);
    }

    fn set(&mut self, name: &str, revision: Option<Revision>) {
        let at = self.blocks.partition_point(|block| block.first() <= name.as_bytes()).saturating_sub(1);
        let mut names: Vec<_> = self.blocks.get(at).into_iter().flat_map(Block::names).collect();
        match (names.binary_search_by(|(known, _)| known.as_str().cmp(name)), revision) {
            (Ok(place), Some(revision)) => names[place].1 = revision,
            (Ok(place), None) => drop(names.remove(place)),
            (Err(place), Some(revision)) => names.insert(place, (name.to_owned(), revision)),
            (Err(_), None) => return,
        }
        // A block that is full makes two that are not.
        let full = if names.len() > FULL { names.len().div_ceil(2) } else { FULL };
        let changed = blocks(names.iter().map(|(name, revision)| (name.as_str(), *revision)), full);
        let end = self.blocks.len().min(at + 1);
        self.blocks.splice(at..end, changed);
    }
}

/// Blocks of so many names.
fn blocks<'a>(sorted: impl IntoIterator<Item = (&'a str, Revision)>, full: usize) -> Vec<Block> {
    let (mut blocks, mut bytes, mut before) = (Vec::new(), Vec::new(), "");
    for (index, (name, revision)) in sorted.into_iter().enumerate() {
        if index > 0 && index % full == 0 {
            blocks.push(Block(bytes.as_slice().into()));
            (bytes, before) = (Vec::new(), "");
        }
        let alike = name.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
        let rest = &name.as_bytes()[alike..];
        write(&mut bytes, alike as u64);
        write(&mut bytes, rest.len() as u64);
        bytes.extend_from_slice(rest);
        write(&mut bytes, revision.0);
        before = name;
    }
    if !bytes.is_empty() {
        blocks.push(Block(bytes.into()));
    }
    blocks
}

impl Block {
    /// The first name, which shares nothing.
    fn first(&self) -> &[u8] {
        let mut bytes = &*self.0;
        read(&mut bytes);
        let len = read(&mut bytes) as usize;
        &bytes[..len]
    }

    fn names(&self) -> impl Iterator<Item = (String, Revision)> {
        let (mut bytes, mut name) = (&*self.0, Vec::new());
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            name.truncate(read(&mut bytes) as usize);
            let len = read(&mut bytes) as usize;
            let (rest, after) = bytes.split_at(len);
            name.extend_from_slice(rest);
            bytes = after;
            let text = String::from_utf8(name.clone()).expect("a block is written of text");
            Some((text, Revision(read(&mut bytes))))
        })
    }
}

/// Seven bits a byte, the lowest first; the eighth says that there are more.
fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(bytes: &mut &[u8]) -> u64 {
    let len = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
    let (number, rest) = bytes.split_at(len);
    *bytes = rest;
    number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn listed(told: &Told) -> Vec<(String, u64)> {
        told.iter().map(|(name, revision)| (name, revision.0)).collect()
    }

    proptest! {
        #[test]
        fn names_are_kept_as_a_map_keeps_them(
            begin in prop::collection::btree_map("[aäb]{1,6}", any::<u64>(), 0..200),
            changes in prop::collection::vec(("[aäb]{1,6}", any::<Option<u64>>()), 0..200),
        ) {
            let mut told = Told::new(begin.iter().map(|(name, number)| (name.as_str(), Revision(*number))));
            let mut expected: BTreeMap<String, u64> = begin;
            for (name, number) in changes {
                match number {
                    Some(number) => {
                        told.insert(&name, Revision(number));
                        expected.insert(name, number);
                    }
                    None => {
                        told.remove(&name);
                        expected.remove(&name);
                    }
                }
            }
            prop_assert!(told.blocks.iter().all(|block| (1..=FULL).contains(&block.names().count())));
            prop_assert_eq!(listed(&told), Vec::from_iter(expected));
        }
    }

    #[test]
    fn an_endpoint_takes_few_bytes() {
        let names: Vec<String> = (1000..2000).map(|number| format!("service-{number}/11.0.0.1")).collect();
        let told = Told::new(names.iter().map(|name| (name.as_str(), Revision(100_000))));
        let bytes: usize = told.blocks.iter().map(|block| block.0.len() + size_of::<Block>()).sum();
        assert!(bytes < 20 * names.len(), "{bytes}");
    }
}
