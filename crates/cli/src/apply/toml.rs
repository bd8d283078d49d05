//! Objects in TOML: `[[network]]`, `[[service]]`, `[[endpoint]]`.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::object::{Endpoint, Kind, Object};
use super::read::{Found, Position};

/// What is there, and all that is wrong.
pub(super) fn read(text: &str) -> (Found<Object>, Found<String>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let complaint = |error: &Error| (start(text, error.span()), error.message().to_owned());
    let mut complaints: Found<String> = errors.iter().map(complaint).collect();
    let mut objects = Found::new();
    if !complaints.is_empty() {
        // What was not understood may have been what other parts need.
        return (objects, complaints);
    }
    for (key, value) in table.into_inner() {
        let at = start(text, Some(key.span()));
        match (Kind::of(key.get_ref()), value.into_inner()) {
            (Ok(kind), DeValue::Array(values)) => {
                for value in values {
                    let at = start(text, Some(value.span()));
                    match object(kind, value) {
                        Ok(object) => objects.push((at, object)),
                        Err(error) => complaints.push(complaint(&error)),
                    }
                }
            }
            (Ok(kind), _) => complaints.push((at, format!("write [[{}]], for each one", kind.word()))),
            (Err(message), _) => complaints.push((at, message)),
        }
    }
    objects.sort_by_key(|(at, _)| *at);
    complaints.sort();
    (objects, complaints)
}

fn object(kind: Kind, value: Spanned<DeValue<'_>>) -> Result<Object, Error> {
    let value = ValueDeserializer::from(value);
    Ok(match kind {
        Kind::Network => Object::Network(Deserialize::deserialize(value)?),
        Kind::Service => Object::Service(Deserialize::deserialize(value)?),
        Kind::Endpoint => Object::Endpoint(Endpoint::deserialize(value)?),
    })
}

/// Where a span begins; without one, where the text does.
fn start(text: &str, span: Option<std::ops::Range<usize>>) -> Position {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_in_the_order_of_the_file() {
        let text = "[[endpoint]]\nservice = \"web\"\naddress = \"192.0.2.9\"\n\n\
            [[service]]\nname = \"web\"\nports = [{ port = 80 }]\n[service.selector]\napp = \"web\"\n";
        let (objects, complaints) = read(text);
        assert_eq!(complaints, []);
        let named: Vec<_> = objects.iter().map(|(at, object)| (*at, object.to_string())).collect();
        assert_eq!(named, [((1, 1), "endpoint/web/192.0.2.9".into()), ((5, 1), "service/web".into())]);
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_place() {
        let text = "[[service]]\nname = \"web\"\nprots = []\n\n[[service]]\nname = \"b b\"\n\n\
            [[service]]\nname = \"c\"\nports = [{ port = 0 }]\n\n[pod]\nname = \"x\"\n\n[endpoint]\n";
        let (_, complaints) = read(text);
        let words = [
            ((3, 1), "unknown field"),
            ((6, 8), "service name"),
            ((10, 19), "nonzero"),
            ((12, 2), "no kind"),
        ];
        assert_eq!(complaints.len(), 5, "{complaints:?}");
        for (complaint, (at, word)) in complaints.iter().zip(words) {
            assert!(complaint.0 == at && complaint.1.contains(word), "{complaint:?} {at:?} {word}");
        }
        assert_eq!(complaints[4].1, "write [[endpoint]], for each one");
    }

    #[test]
    fn what_is_no_toml_is_said_with_its_place() {
        let (_, complaints) = read("[[service]]\nname = web\n");
        assert_eq!(complaints[0].0, (2, 8), "{complaints:?}");
    }
}
