//! Values of types that refuse fields they do not know, read nevertheless: what another version wrote besides is
//! skipped. Whoever says what is to be is still refused a misspelt field, since that is not read by way of this.

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// A value of which a struct gets only the fields that it has.
pub(crate) struct Tolerant(pub(crate) Value);

impl Tolerant {
    fn retaining(self, fields: &[&str]) -> Self {
        match self.0 {
            Value::Object(mut object) => {
                object.retain(|key, _| fields.contains(&key.as_str()));
                Self(Value::Object(object))
            }
            other => Self(other),
        }
    }
}

fn entries(object: Map<String, Value>) -> impl Iterator<Item = (String, Tolerant)> {
    object.into_iter().map(|(key, value)| (key, Tolerant(value)))
}

impl<'de> IntoDeserializer<'de, Error> for Tolerant {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => visitor.visit_map(MapDeserializer::new(entries(object))),
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Tolerant))),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.retaining(fields).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
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
        match self.0 {
            Value::Object(object) if object.len() == 1 => match entries(object).next() {
                Some((variant, content)) => visitor.visit_enum(Variant { variant, content }),
                None => Value::Null.deserialize_enum(name, variants, visitor),
            },
            plain => plain.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

/// A variant with content.
struct Variant {
    variant: String,
    content: Tolerant,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Tolerant;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Tolerant), Error> {
        let variant: StringDeserializer<Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Tolerant {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.retaining(fields).deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeugma_model::{Deployment, Network, Probe, RegisteredEndpoint};

    use super::*;

    /// Every object gets one more field.
    fn newer(value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let more = object.iter().map(|(key, value)| (key.clone(), newer(value)));
                more.chain([("from-the-future".to_owned(), json!({"a": [1]}))]).collect()
            }
            Value::Array(list) => list.iter().map(newer).collect(),
            plain => plain.clone(),
        }
    }

    fn check<T: serde::de::DeserializeOwned + serde::Serialize>(stored: Value) {
        let value: T = serde::Deserialize::deserialize(Tolerant(stored.clone())).unwrap();
        assert_eq!(serde_json::to_value(&value).unwrap(), stored, "nothing that is known is skipped");
        let value: T = serde::Deserialize::deserialize(Tolerant(newer(&stored))).unwrap();
        assert_eq!(serde_json::to_value(&value).unwrap(), stored);
        assert!(serde_json::from_value::<T>(newer(&stored)).is_err(), "others are strict");
    }

    fn deployment() -> Value {
        let service = json!({
            "name": "web", "networks": ["front"], "mode": "vip", "vips": ["10.96.0.1"],
            "ports": [{"name": "http", "port": 80, "target": 8080, "protocol": "tcp"}],
            "published": [{"published": 8080, "port": 80, "protocol": "tcp", "scope": "mesh"}],
            "affinity": {"timeout_seconds": 600}, "traffic": "prefer-local", "drain_seconds": 30,
            "update": {"parallelism": 2, "delay_seconds": 5, "monitor_seconds": 10, "on_failure": "rollback",
                       "order": "stop-first"}
        });
        json!({"service": service, "previous": service,
            "rollout": {"from": {}, "driver": "n1", "step": 2, "reach": {"joined": {"v4": "10.88.0.2"}},
                        "state": "running"}})
    }

    #[test]
    fn what_a_newer_version_wrote_besides_is_skipped_at_any_depth() {
        let mut plain = deployment();
        plain.as_object_mut().unwrap().remove("rollout");
        check::<Deployment>(plain);
        check::<RegisteredEndpoint>(json!({"service": "web", "origin": "added",
            "endpoint": {"address": "10.88.0.2", "node": "n1", "weight": 3, "state": "ready"}}));
        check::<Network>(serde_json::to_value(network()).unwrap());
    }

    #[test]
    fn also_in_variants_and_steps_of_an_exchange() {
        let mut stored = deployment();
        stored["rollout"]["reach"]["joined"]["v7"] = json!(1);
        stored["service"]["health"] = json!({"probe": {"http": {"port": 80, "path": "/", "host": "a"}}});
        let read = <Deployment as serde::Deserialize>::deserialize(Tolerant(stored)).unwrap();
        assert!(matches!(read.service.health.unwrap().probe, Probe::Http { path, .. } if path == "/"));
        assert!(read.rollout.unwrap().reach.joined.includes("10.88.0.2".parse().unwrap()));
    }

    fn network() -> Network {
        serde_json::from_value(json!({"name": "lab", "subnets": [{"subnet": "10.89.0.0/24"}]})).unwrap()
    }

    #[test]
    fn what_is_wrong_is_refused_nevertheless() {
        let refused = |path: &str, value: Value, words: &str| {
            let mut stored = deployment();
            *stored.pointer_mut(path).unwrap() = value;
            let read: Result<Deployment, _> = serde::Deserialize::deserialize(Tolerant(stored));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("/service/traffic", json!("nearest"), "unknown variant `nearest`");
        refused("/service/ports/0", json!({"name": "http"}), "missing field `port`");
        refused("/rollout/state", json!({"asleep": "why"}), "unknown variant `asleep`");
    }
}
