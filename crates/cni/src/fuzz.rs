//! Entries for fuzzing: whatever comes in, the parsers answer, and what they took they can write again.

use serde_json::Value;

use crate::{CniResult, NetConf, Version};

/// Reads `input` as a configuration for every verb.
pub fn fuzz_netconf(input: &[u8]) {
    if let Ok(conf) = NetConf::parse(input) {
        assert_eq!(NetConf::parse_for_del(input).ok().as_ref(), Some(&conf), "DEL reads what ADD reads");
    }
}

/// Reads `input` as a result of every version. What could be read is written, read and written again.
pub fn fuzz_result(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    for default in Version::ALL {
        let Ok(result) = CniResult::from_json(&value, default) else {
            continue;
        };
        for version in Version::ALL {
            let Ok(written) = result.to_json(version) else {
                continue;
            };
            let again = CniResult::from_json(&written, version).map(|again| again.to_json(version));
            assert_eq!(again.ok(), Some(Ok(written)), "{version} reads what it writes");
        }
    }
}
