//! The option tables of the user pages, made from the types that read the options: for tests alone.
//!
//! A page in docs/plugins has its table between two comments. A plugin's test compares it with what its type says;
//! `cargo xtask docs` runs the same tests and lets them write. Nothing here is shipped.

use std::path::PathBuf;
use std::{env, fs};

use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value};

const BEGIN: &str = "<!-- options: made from the type by `cargo xtask docs` -->\n";
const END: &str = "<!-- end of options -->";

/// Demands that the page of `plugin` has the options of `T`, or writes them there when `ZEUGMA_WRITE_PAGES` is set.
///
/// # Panics
/// When the page lacks the two comments, or the table is another one.
pub fn check<T: JsonSchema>(plugin: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/plugins/{plugin}.md"));
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fresh = with_table(&page, &table::<T>())
        .unwrap_or_else(|| panic!("{} has no place for its options: {BEGIN}{END}", path.display()));
    if env::var_os("ZEUGMA_WRITE_PAGES").is_some() {
        fs::write(&path, fresh).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    } else {
        assert!(page == fresh, "{} is not what the type says: run `cargo xtask docs`", path.display());
    }
}

/// The page with the table in its place; none when it has no place for one.
fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// A row per key, in the order of the alphabet.
fn table<T: JsonSchema>() -> String {
    let schema = Value::from(schema_for!(T));
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    let keys = schema["properties"].as_object().unwrap_or(&none);
    let mut table = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    for (key, about) in keys {
        let text = about["description"].as_str().unwrap_or_default().replace('\n', " ");
        let (meaning, default) = told(&text);
        table.push_str(&format!("| `{key}` | {} | {default} | {meaning} |\n", kind(about, definitions)));
    }
    table
}

/// The meaning, and the default that its last sentence tells: `Default 0: the master's.`, `Required.`
fn told(text: &str) -> (String, String) {
    let text = text.trim();
    if let Some(meaning) = text.strip_suffix("Required.") {
        return (meaning.trim().into(), "required".into());
    }
    match text.rfind("Default") {
        Some(at) => {
            let default = text[at..].trim_start_matches("Default").trim_start_matches(':').trim();
            (text[..at].trim().into(), default.trim_end_matches('.').into())
        }
        None => (text.into(), String::new()),
    }
}

/// A type as users say it.
fn kind(about: &Value, definitions: &Map<String, Value>) -> &'static str {
    let named = |name: &Value| name.as_str().filter(|name| *name != "null").map(str::to_owned);
    let own = match &about["type"] {
        Value::Array(several) => several.iter().find_map(named),
        one => named(one),
    };
    if let Some(name) = own {
        return match name.as_str() {
            "string" => "text",
            "boolean" => "bool",
            "integer" | "number" => "number",
            "array" => "list",
            _ => "object",
        };
    }
    let alternatives = about["anyOf"].as_array().into_iter().flatten();
    let reference = alternatives.chain([about]).find_map(|part| part["$ref"].as_str()?.rsplit('/').next());
    match reference.and_then(|name| definitions.get(name)) {
        Some(definition) => kind(definition, definitions),
        None => "any",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sentence_is_the_default() {
        let told = |text| {
            let (meaning, default) = told(text);
            format!("{meaning}|{default}")
        };
        assert_eq!(told("MTU in bytes. Default 0: the master's."), "MTU in bytes.|0: the master's");
        assert_eq!(told("The VLAN. Required."), "The VLAN.|required");
        assert_eq!(told("A list."), "A list.|");
    }

    #[test]
    fn a_table_takes_the_place_of_the_old_one() {
        let page = format!("# x\n{BEGIN}old{END}\nrest");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("# x\n{BEGIN}\nnew\n\n{END}\nrest"));
        assert_eq!(with_table("# x", "new"), None);
    }

    #[test]
    fn types_have_the_words_of_users() {
        let about = serde_json::json!({"type": ["integer", "null"]});
        assert_eq!(kind(&about, &Map::new()), "number");
        let nested = serde_json::json!({"anyOf": [{"$ref": "#/$defs/Thing"}, {"type": "null"}]});
        let definitions = serde_json::json!({"Thing": {"type": "array"}});
        assert_eq!(kind(&nested, definitions.as_object().unwrap()), "list");
    }
}
