//! `deploy` of a service in a stack file: how its endpoints are exchanged. Durations are Go's.

use serde_json::{Value, json};

use super::tree::{Node, Wrong};

/// Keys of `deploy` that are ours.
const OURS: &[&str] = &["endpoint_mode", "labels", "update_config", "rollback_config"];
/// Keys that are the runtime's: how many containers, where, and what becomes of them.
const NOT_OURS: &[&str] = &["mode", "replicas", "placement", "resources", "restart_policy", "job_config"];

/// What of `deploy` is left to others.
pub(super) fn not_ours(what: &str, deploy: &Node) -> Result<Vec<String>, Wrong> {
    let known: Vec<&str> = OURS.iter().chain(NOT_OURS).copied().collect();
    deploy.ensure_known(&format!("{what}: deploy"), &known)?;
    let theirs = NOT_OURS.iter().filter(|key| deploy.get(key).is_some());
    Ok(theirs.map(|key| format!("deploy.{key}")).collect())
}

/// The policy of a service.
pub(super) fn policy(what: &str, deploy: &Node) -> Result<Value, Wrong> {
    let Some(config) = deploy.get("update_config") else { return Ok(json!({})) };
    let what = format!("{what}: update_config");
    config.ensure_known(
        &what,
        &["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"],
    )?;
    let mut policy = json!({});
    for (key, value) in config.map(&what)? {
        let (ours, value) = match key.name.as_str() {
            "parallelism" => ("parallelism", json!(value.value::<u32>(&what)?)),
            "delay" => ("delay_seconds", json!(seconds(&what, value)?)),
            "monitor" => ("monitor_seconds", json!(seconds(&what, value)?)),
            "failure_action" => ("on_failure", json!(value.text(&what)?)),
            "order" => ("order", json!(value.text(&what)?)),
            "max_failure_ratio" if !["0", "0.0"].contains(&value.text(&what)?) => {
                return Err(key
                    .at
                    .wrong(format!("{what}: one failure is enough: leave max_failure_ratio out")));
            }
            _ => continue,
        };
        policy[ours] = value;
    }
    Ok(policy)
}

/// `1m30s`, `500ms`, rounded up to whole seconds; a bare number is nanoseconds to Go, and a mistake here.
fn seconds(what: &str, node: &Node) -> Result<u32, Wrong> {
    let text = node.text(what)?;
    parse(text).ok_or_else(|| node.at.wrong(format!("{what}: {text:?} is no duration: write 10s or 1m30s")))
}

fn parse(text: &str) -> Option<u32> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut seconds) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // A cast of what is larger is the largest.
    (!text.is_empty()).then_some(seconds.ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_go_s() {
        for (text, expected) in [
            ("10s", Some(10)),
            ("1m30s", Some(90)),
            ("500ms", Some(1)),
            ("1h", Some(3600)),
            ("1.5s", Some(2)),
            ("0", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1w", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
