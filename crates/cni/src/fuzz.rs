//! Entries for fuzzing: whatever comes in, the parsers answer, name the key that is wrong, and can write again
//! what they took.

use serde_json::Value;

use crate::{CniCode, CniResult, DecodeError, ErrorObject, NetConf, Version, version_answer};

/// Reads `input` as a configuration for every verb.
pub fn fuzz_netconf(input: &[u8]) {
    version_answer(input, &Version::ALL);
    match NetConf::parse(input) {
        Ok(conf) => {
            assert_eq!(NetConf::parse_for_del(input).ok().as_ref(), Some(&conf), "DEL reads what ADD reads");
        }
        Err(error) => must_tell(&error),
    }
}

/// Reads `input` as a result of every version, and as the error object of a delegate. What could be read is
/// written, read and written again.
pub fn fuzz_result(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    if let Some(error) = ErrorObject::from_json(&value) {
        assert_eq!(ErrorObject::from_json(&error.to_json()), Some(error));
    }
    for default in Version::ALL {
        match CniResult::from_json(&value, default) {
            Ok(result) => must_read_what_it_writes(&result),
            Err(error) => must_tell(&error),
        }
    }
}

fn must_read_what_it_writes(result: &CniResult) {
    for version in Version::ALL {
        let Ok(written) = result.to_json(version) else {
            continue;
        };
        let again = CniResult::from_json(&written, version).map(|again| again.to_json(version));
        assert_eq!(again.ok(), Some(Ok(written)), "{version} reads what it writes");
    }
}

/// An error has words, and names the key where a key is wrong.
fn must_tell(error: &DecodeError) {
    assert!(!error.to_string().is_empty() && error.code().number() > 0);
    if let DecodeError::Key { key, source } = error {
        let is_root = source.to_string().starts_with("invalid type");
        assert!(!key.is_empty() || is_root, "an error without a key: {error}");
    }
}
