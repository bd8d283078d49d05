//! Keys of configurations whatever their case. The reference is written in Go, which reads `isgateway` and
//! `IsGateway` as `isGateway`: a configuration that works there works here. The exact spelling wins.
//!
//! Also as there: null is like missing. What a value means is the type's that is read.

use std::collections::BTreeMap;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// The value of `key`, else of a key that differs from it in case alone; null is like missing.
pub(crate) fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let found = object.get(key).or_else(|| {
        let mut others = object.iter().filter(|(other, _)| other.eq_ignore_ascii_case(key));
        others.next().map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

/// JSON whose objects are read into structures without regard to the case of their keys, at every depth.
#[derive(Clone, Copy)]
pub(crate) enum Folded<'de> {
    Object(&'de Map<String, Value>),
    Other(&'de Value),
}

impl<'de> From<&'de Value> for Folded<'de> {
    fn from(value: &'de Value) -> Self {
        value.as_object().map_or(Self::Other(value), Self::Object)
    }
}

impl<'de> From<&'de Map<String, Value>> for Folded<'de> {
    fn from(object: &'de Map<String, Value>) -> Self {
        Self::Object(object)
    }
}

/// The values of a structure's fields under the fields' own names; other keys as they are.
fn named<'de>(object: &'de Map<String, Value>, fields: &[&'static str]) -> BTreeMap<&'de str, &'de Value> {
    let fold =
        |key: &'de str| fields.iter().copied().find(|field| field.eq_ignore_ascii_case(key)).unwrap_or(key);
    let present = || object.iter().filter(|(_, value)| !value.is_null());
    let mut named: BTreeMap<&str, &Value> = present().map(|(key, value)| (fold(key), value)).collect();
    let exact = present().filter(|(key, _)| fields.contains(&key.as_str()));
    named.extend(exact.map(|(key, value)| (key.as_str(), value)));
    named
}

impl<'de> Deserializer<'de> for Folded<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Object(object) => {
                let entries = object.iter().map(|(key, value)| (key.as_str(), Self::from(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            Self::Other(Value::Array(items)) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(Self::from)))
            }
            Self::Other(plain) => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self::Object(object) = self else {
            return self.deserialize_any(visitor);
        };
        let entries = named(object, fields).into_iter().map(|(key, value)| (key, Self::from(value)));
        visitor.visit_map(MapDeserializer::new(entries))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Other(Value::Null) => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Object(object) => object.deserialize_enum(name, variants, visitor),
            Self::Other(value) => value.deserialize_enum(name, variants, visitor),
        }
    }

    /// What nobody reads is not looked at.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier
    }
}

impl<'de> IntoDeserializer<'de, Error> for Folded<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Outer {
        is_gateway: bool,
        #[serde(rename = "hostIP")]
        host_ip: Option<String>,
        ranges: Vec<Inner>,
        free: BTreeMap<String, u8>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Inner {
        range_start: String,
    }

    #[track_caller]
    fn check(json: Value, expected: Outer) {
        assert_eq!(Outer::deserialize(Folded::from(&json)).unwrap(), expected, "{json}");
    }

    #[test]
    fn the_case_of_a_key_does_not_matter() {
        for key in ["isGateway", "isgateway", "IsGateway", "ISGATEWAY"] {
            check(json!({ key: true }), Outer { is_gateway: true, ..Outer::default() });
        }
    }

    #[test]
    fn the_exact_spelling_wins() {
        let one = Outer { host_ip: Some("1".into()), ..Outer::default() };
        check(json!({ "HOSTIP": "2", "hostIP": "1", "hostip": "3" }), one);
        let null = json!({ "hostIP": null, "hostip": "3" });
        check(null, Outer { host_ip: Some("3".into()), ..Outer::default() });
    }

    #[test]
    fn keys_fold_at_every_depth_but_not_those_of_free_objects() {
        let ranges = vec![Inner { range_start: "a".into() }, Inner { range_start: "b".into() }];
        let free = BTreeMap::from([("A".into(), 1), ("a".into(), 2)]);
        check(
            json!({ "Ranges": [{ "rangestart": "a" }, { "RangeStart": "b" }], "free": { "A": 1, "a": 2 } }),
            Outer { ranges, free, ..Outer::default() },
        );
    }

    #[test]
    fn a_key_is_found_whatever_its_case() {
        let object = json!({ "CniVersion": "1", "name": null });
        let object = object.as_object().unwrap();
        assert_eq!(get(object, "cniVersion"), Some(&json!("1")));
        assert_eq!((get(object, "name"), get(object, "type")), (None, None));
    }
}
