//! The entry for fuzzing what stands in the run directory: somebody may have spoilt it.

use crate::{Record, claims};

/// Reads `input` as a record and as a file of claims. What could be read is written and read again.
pub fn fuzz_journal(input: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(input) {
        let written = serde_json::to_vec(&record).expect("a record is JSON");
        let again = serde_json::from_slice::<Record>(&written).ok();
        assert_eq!(again, Some(Record { spoilt: false, ..record }));
    }
    if let Ok(claims) = claims::parse(input) {
        let written = claims::render(&claims).expect("claims are JSON");
        assert_eq!(claims::parse(&written).ok(), Some(claims));
    }
}
