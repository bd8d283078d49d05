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
