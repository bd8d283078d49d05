//! The entry for fuzzing what stands in a store, and in the memory of one: another version, or somebody by hand, may have
//! written it.

use zeugma_model::{Alive, Block, Deployment, Network, Node, RegisteredEndpoint};

use crate::table::{encode, row};
use crate::{Item, Key, LastNetwork, LeaseId, Revision, Stored, TakenVip};

/// Reads `input` as a value of each kind. What could be read is written and read again.
pub fn fuzz_rows(input: &[u8]) {
    again::<Network>(input);
    again::<Deployment>(input);
    again::<RegisteredEndpoint>(input);
    again::<Node>(input);
    again::<Block>(input);
    again::<Alive>(input);
    again::<LastNetwork>(input);
    again::<TakenVip>(input);
}

fn again<T: Stored>(value: &[u8]) {
    let key = Key::new(T::KIND, "a").expect("a name");
    let item = |value| Item { key: key.clone(), value, revision: Revision(7), lease: Some(LeaseId(7)) };
    let first = match row::<T>(&item(value.to_vec())) {
        Ok(row) => encode(&key, &row.value).expect("what was read is written"),
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let second = row::<T>(&item(first.clone())).expect("what was written is read");
    assert_eq!(encode(&key, &second.value).ok(), Some(first), "it is read as it was written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read<T: Stored>(file: &str) -> bool {
        let path = format!("{}/tests/corpus/rows/{file}", env!("CARGO_MANIFEST_DIR"));
        let key = Key::new(T::KIND, "a").unwrap();
        let item = Item { key, value: std::fs::read(path).unwrap(), revision: Revision(7), lease: None };
        row::<T>(&item).is_ok()
    }

    #[test]
    fn the_corpus_has_a_value_of_every_kind() {
        assert!(is_read::<Network>("network") && is_read::<Network>("bridge"));
        assert!(is_read::<Deployment>("service") && is_read::<RegisteredEndpoint>("endpoint"));
        assert!(is_read::<Node>("node") && is_read::<Block>("block") && is_read::<Alive>("alive"));
        assert!(is_read::<LastNetwork>("last") && is_read::<TakenVip>("vip"));
        assert!(!is_read::<Node>("future") && !is_read::<Node>("no_envelope"));
    }
}
