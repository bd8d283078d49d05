//! `CNI_ARGS`: `K=V;K2=V2`. Deprecated by the specification, used by Kubernetes all the same.

use std::collections::BTreeMap;

/// `CNI_ARGS`, read: `K=V;K2=V2`. Which keys mean something is each plugin's business: unknown ones are
/// tolerated even without `IgnoreUnknown`, because every plugin of a chain and every delegate gets them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// The pairs, `IgnoreUnknown` excepted.
    pub pairs: BTreeMap<String, String>,
    /// `IgnoreUnknown=1|true`.
    pub ignore_unknown: bool,
}

/// `CNI_ARGS` is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A part without `=` or with several, or without a key.
    #[error("CNI_ARGS: invalid pair {0:?}: write KEY=VALUE, with `;` between pairs")]
    Pair(String),
    /// `IgnoreUnknown` is neither true nor false.
    #[error("CNI_ARGS: IgnoreUnknown is {0:?}: write 1, true, 0 or false")]
    IgnoreUnknown(String),
}

impl CniArgs {
    /// Reads the text of the variable. Empty parts are tolerated; of equal keys the last counts.
    pub fn parse(text: &str) -> Result<Self, ArgsError> {
        let mut args = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("", _)) | None => return Err(ArgsError::Pair(part.into())),
                Some((_, value)) if value.contains('=') => return Err(ArgsError::Pair(part.into())),
                Some(("IgnoreUnknown", value)) => args.ignore_unknown = truth(value)?,
                Some((key, value)) => drop(args.pairs.insert(key.into(), value.into())),
            }
        }
        Ok(args)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }
}

fn truth(value: &str) -> Result<bool, ArgsError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(ArgsError::IgnoreUnknown(value.into())),
    }
}

/// Fuzz entry: whatever comes in is read or refused.
pub fn fuzz_args(input: &[u8]) {
    if let Ok(args) = CniArgs::parse(&String::from_utf8_lossy(input)) {
        assert!(args.pairs.keys().all(|key| args.get(key).is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)], ignore_unknown: bool) {
        let pairs = expected
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        assert_eq!(
            CniArgs::parse(text),
            Ok(CniArgs {
                pairs,
                ignore_unknown
            })
        );
    }

    #[test]
    fn c2_kubernetes_arguments_are_read() {
        check(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=a1;K8S_POD_UID=",
            &[
                ("K8S_POD_NAMESPACE", "default"),
                ("K8S_POD_NAME", "web-0"),
                ("K8S_POD_INFRA_CONTAINER_ID", "a1"),
                ("K8S_POD_UID", ""),
            ],
            true,
        );
    }

    #[test]
    fn unknown_arguments_are_tolerated_without_ignore_unknown() {
        check(
            "MAC=02:00:00:00:00:01;IP=10.0.0.2;GATEWAY=10.0.0.1",
            &[
                ("MAC", "02:00:00:00:00:01"),
                ("IP", "10.0.0.2"),
                ("GATEWAY", "10.0.0.1"),
            ],
            false,
        );
    }

    #[test]
    fn empty_arguments_are_none() {
        check("", &[], false);
        check("A=1;;IgnoreUnknown=FALSE;", &[("A", "1")], false);
        check("IgnoreUnknown=True", &[], true);
    }

    #[test]
    fn malformed_arguments_are_refused() {
        for text in ["A", "=1", "A=1;B", "A=1=2"] {
            assert!(matches!(CniArgs::parse(text), Err(ArgsError::Pair(_))), "{text}");
        }
        assert_eq!(
            CniArgs::parse("IgnoreUnknown=yes"),
            Err(ArgsError::IgnoreUnknown("yes".into()))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(input: Vec<u8>) {
            fuzz_args(&input);
        }
    }
}
