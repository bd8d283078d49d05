//! Objects in YAML: a document each, with `kind`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, RenderOptions, SnippetMode, Spanned};

use super::object::{Endpoint, Kind, Object};
use super::read::{Found, Position};

/// What is there, and the first thing that is wrong of each document.
pub(super) fn read(text: &str) -> (Found<Object>, Found<String>) {
    let (mut objects, mut complaints) = (Found::new(), Found::new());
    for document in documents(text) {
        match object(&document) {
            Ok(None) => {}
            Ok(Some(found)) => objects.push(found),
            Err(complaint) => complaints.push(complaint),
        }
    }
    (objects, complaints)
}

/// Each behind as many empty lines as it has lines before it, so that places in it are places in the text.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_mark =
            line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
        if is_mark {
            documents.push("\n".repeat(number));
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents
}

#[derive(Deserialize)]
struct Head {
    kind: Option<Spanned<String>>,
}

fn object(text: &str) -> Result<Option<(Position, Object)>, (Position, String)> {
    let head: Option<Head> = parsed(text)?;
    let Some(head) = head else { return Ok(None) };
    let blank = text.split_inclusive('\n').take_while(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    });
    let begin = (blank.count() + 1, 1);
    let Some(Spanned { value: word, referenced, .. }) = head.kind else {
        return Err((begin, format!("say which kind it is, such as `kind: {}`", Kind::Service.word())));
    };
    let kind = Kind::of(&word).map_err(|message| (position(referenced), message))?;
    let object = match kind {
        Kind::Network => Object::Network(parsed::<Body<_>>(text)?.0),
        Kind::Service => Object::Service(parsed::<Body<_>>(text)?.0),
        Kind::Endpoint => Object::Endpoint(parsed::<Body<Endpoint>>(text)?.0),
    };
    Ok(Some((begin, object)))
}

/// A value out of a text, or the place of what is wrong.
pub(crate) fn parsed<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, (Position, String)> {
    serde_saphyr::from_str(text).map_err(|error| complaint(&error))
}

/// Line and column.
pub(crate) fn position(location: serde_saphyr::Location) -> Position {
    (location.line() as usize, location.column() as usize)
}

/// The message without the place, which stands before it.
fn complaint(error: &Error) -> (Position, String) {
    let mut options = RenderOptions::default();
    options.snippets = SnippetMode::Off;
    let mut message = error.render_with_options(options);
    if let Some(place) = message.rfind(" at line ") {
        message.truncate(place);
    }
    (error.location().map_or((1, 1), position), message)
}

/// A document without its `kind`.
struct Body<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Body<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Rest(PhantomData)).map(Self)
    }
}

struct Rest<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Rest<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(WithoutKind(map)))
    }
}

struct WithoutKind<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutKind<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.0.next_key::<String>()? {
                None => return Ok(None),
                Some(key) if key == "kind" => drop(self.0.next_value::<IgnoredAny>()?),
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# mine\n---\nkind: service\nname: web\nports:\n- port: 80\n---\n# nothing\n---\n\
        service: web\naddress: 192.0.2.9\nkind: endpoint\n";

    #[test]
    fn documents_are_objects_and_empty_ones_are_nothing() {
        let (objects, complaints) = read(TWO);
        assert_eq!(complaints, []);
        let named: Vec<_> = objects.iter().map(|(at, object)| (*at, object.to_string())).collect();
        assert_eq!(named, [((3, 1), "service/web".into()), ((10, 1), "endpoint/web/192.0.2.9".into())]);
    }

    #[test]
    fn json_is_yaml() {
        let (objects, complaints) = read(r#"{"kind": "service", "name": "web", "selector": {"v": "2"}}"#);
        assert_eq!((objects.len(), complaints), (1, vec![]));
    }

    #[test]
    fn what_is_wrong_is_said_for_each_document_with_its_place() {
        let text = "name: web\n---\nkind: pod\n---\nkind: service\nname: web\nprots: []\n---\n\
            kind: service\nname: b b\n---\nkind: service\nname: c\nports:\n- port: 0\n---\nkind: [\n";
        let (_, complaints) = read(text);
        let words = [
            ((1, 1), "say which kind"),
            ((3, 7), "\"pod\" is no kind: there are network, service, endpoint"),
            ((7, 1), "unknown field"),
            ((10, 7), "service name"),
            ((15, 3), "nonzero"),
        ];
        assert_eq!(complaints.len(), 6, "{complaints:?}");
        for (complaint, (at, word)) in complaints.iter().zip(words) {
            assert!(complaint.0 == at && complaint.1.contains(word), "{complaint:?} {at:?} {word}");
        }
    }
}
