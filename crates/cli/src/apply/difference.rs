//! What is different between two values, a line each: `-` is, `+` is to be.

use std::collections::BTreeMap;

use serde_json::Value;

/// Nothing where they are equal.
pub(super) fn differences(now: &Value, wanted: &Value) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    leaves(String::new(), now, &mut before);
    leaves(String::new(), wanted, &mut after);
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let lines = paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).flat_map(|path| {
        let line = |sign, leaf: Option<&&Value>| leaf.map(|leaf| format!("{sign} {path}: {leaf}"));
        [line('-', before.get(path)), line('+', after.get(path))]
    });
    lines.flatten().collect()
}

/// Everything that has no parts, by its path.
fn leaves<'a>(path: String, value: &'a Value, found: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(parts) if !parts.is_empty() => {
            for (key, part) in parts {
                leaves(if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, part, found);
            }
        }
        Value::Array(parts) if !parts.is_empty() => {
            for (number, part) in parts.iter().enumerate() {
                leaves(format!("{path}[{number}]"), part, found);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null => {}
        leaf => drop(found.insert(path, leaf)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_said() {
        let now = json!({"name": "web", "ports": [{"port": 80}, {"port": 81}], "labels": {"a": "b"}});
        let wanted = json!({"name": "web", "ports": [{"port": 80, "target": 8080}], "labels": {"a": "c"}, "node": null});
        let expected =
            ["- labels.a: \"b\"", "+ labels.a: \"c\"", "+ ports[0].target: 8080", "- ports[1].port: 81"];
        assert_eq!(differences(&now, &wanted), expected);
        assert_eq!(differences(&now, &now), Vec::<String>::new());
    }
}
