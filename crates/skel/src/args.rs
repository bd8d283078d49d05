//! `CNI_ARGS`: `K=V;K2=V2`. Deprecated by the specification, used by Kubernetes all the same.

use std::collections::BTreeMap;

/// `CNI_ARGS`, read: `K=V;K2=V2`.
///
/// A key that no plugin knows is refused unless `IgnoreUnknown` is set: it is a slip of the pen. One that some
/// other plugin knows is tolerated, because every plugin of a chain and every delegate gets them all.
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
    /// Keys that mean nothing to any plugin.
    #[error("ARGS: unknown args {0:?}: correct them, or set IgnoreUnknown=1 in CNI_ARGS")]
    Unknown(Vec<String>),
    /// `IgnoreUnknown` is neither true nor false.
    #[error("CNI_ARGS: IgnoreUnknown is {0:?}: write 1, true, 0 or false")]
    IgnoreUnknown(String),
}

/// The keys that the conventions name.
const KNOWN: [&str; 3] = ["IP", "GATEWAY", "MAC"];
/// Kubernetes tells about the pod.
const KUBERNETES: &str = "K8S_";

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
        let unknown: Vec<String> = args.unknown().map(|(key, value)| format!("{key}={value}")).collect();
        if unknown.is_empty() || args.ignore_unknown { Ok(args) } else { Err(ArgsError::Unknown(unknown)) }
    }

    fn unknown(&self) -> impl Iterator<Item = (&String, &String)> {
        self.pairs.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str()) && !key.starts_with(KUBERNETES))
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

/// Fuzz entry: whatever comes in is read, or refused with the part that is wrong.
pub fn fuzz_args(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match CniArgs::parse(&text) {
        Ok(args) => {
            let pairs = args.pairs.iter().map(|(key, value)| format!("{key}={value}"));
            let ignore = format!("IgnoreUnknown={}", u8::from(args.ignore_unknown));
            let written = pairs.chain([ignore]).collect::<Vec<_>>().join(";");
            assert_eq!(CniArgs::parse(&written), Ok(args), "{text:?}");
        }
        Err(ArgsError::Pair(part) | ArgsError::IgnoreUnknown(part)) => assert!(text.contains(&part)),
        Err(ArgsError::Unknown(parts)) => assert!(parts.iter().all(|part| text.contains(part))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)], ignore_unknown: bool) {
        let pairs = expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        assert_eq!(CniArgs::parse(text), Ok(CniArgs { pairs, ignore_unknown }));
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
    fn unknown_arguments_are_refused_and_ignored_when_asked() {
        assert_eq!(CniArgs::parse("IPP=10.0.0.2"), Err(ArgsError::Unknown(vec!["IPP=10.0.0.2".into()])));
        check("IPP=10.0.0.2;IgnoreUnknown=1", &[("IPP", "10.0.0.2")], true);
    }

    #[test]
    fn arguments_of_other_plugins_are_tolerated() {
        check(
            "MAC=02:00:00:00:00:01;IP=10.0.0.2;GATEWAY=10.0.0.1",
            &[("MAC", "02:00:00:00:00:01"), ("IP", "10.0.0.2"), ("GATEWAY", "10.0.0.1")],
            false,
        );
    }

    #[test]
    fn empty_arguments_are_none() {
        check("", &[], false);
        check("IP=1;;IgnoreUnknown=FALSE;", &[("IP", "1")], false);
        check("IgnoreUnknown=True", &[], true);
    }

    #[test]
    fn malformed_arguments_are_refused() {
        for text in ["IP", "=1", "IP=1;B", "IP=1=2"] {
            assert!(matches!(CniArgs::parse(text), Err(ArgsError::Pair(_))), "{text}");
        }
        assert_eq!(CniArgs::parse("IgnoreUnknown=yes"), Err(ArgsError::IgnoreUnknown("yes".into())));
    }

    #[test]
    fn arguments_of_the_corpus() {
        fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "args", fuzz_args);
    }
}
