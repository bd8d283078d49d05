//! YAML as a tree that knows where everything stands, so that what is wrong is named with line and column.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, RenderOptions, SnippetMode, Spanned};

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(u64, u64);

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {what}", at.0, at.1)]
pub(super) struct Wrong {
    at: At,
    what: String,
}

impl At {
    pub(super) fn wrong(self, what: impl fmt::Display) -> Wrong {
        Wrong { at: self, what: what.to_string() }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) tree: Tree,
}

/// A value. Scalars are texts: what they stand for is their reader's.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Nothing,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) name: String,
}

/// The whole text.
///
/// # Errors
/// Where it is no YAML.
pub(super) fn parsed(text: &str) -> Result<Node, Wrong> {
    serde_saphyr::from_str::<Spanned<Tree>>(text).map(Node::from).map_err(|error| {
        let mut options = RenderOptions::default();
        options.snippets = SnippetMode::Off;
        let mut what = error.render_with_options(options);
        if let Some(place) = what.rfind(" at line ") {
            what.truncate(place);
        }
        error.location().map_or(At(1, 1), At::from).wrong(what)
    })
}

impl Node {
    /// The pairs of a map; of nothing, none.
    pub(super) fn map(&self, what: &str) -> Result<&[(Key, Node)], Wrong> {
        match &self.tree {
            Tree::Map(pairs) => Ok(pairs),
            Tree::Nothing => Ok(&[]),
            Tree::Scalar(_) | Tree::List(_) => Err(self.at.wrong(format!("{what} is to be a map"))),
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.tree {
            Tree::Map(pairs) => pairs.iter().find(|(name, _)| name.name == key).map(|(_, value)| value),
            Tree::Nothing | Tree::Scalar(_) | Tree::List(_) => None,
        }
    }

    pub(super) fn list(&self, what: &str) -> Result<&[Node], Wrong> {
        match &self.tree {
            Tree::List(list) => Ok(list),
            Tree::Nothing => Ok(&[]),
            Tree::Scalar(_) | Tree::Map(_) => Err(self.at.wrong(format!("{what} is to be a list"))),
        }
    }

    pub(super) fn text(&self, what: &str) -> Result<&str, Wrong> {
        match &self.tree {
            Tree::Scalar(text) => Ok(text),
            Tree::Nothing | Tree::List(_) | Tree::Map(_) => {
                Err(self.at.wrong(format!("{what} is to be a single value")))
            }
        }
    }

    /// Parsed, with the parser's own words for what is wrong.
    pub(super) fn value<T>(&self, what: &str) -> Result<T, Wrong>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text(what)?;
        text.parse().map_err(|error| self.at.wrong(format!("{what}: {text:?}: {error}")))
    }

    /// Refuses keys that nobody reads.
    pub(super) fn ensure_known(&self, what: &str, known: &[&str]) -> Result<(), Wrong> {
        match self
            .map(what)?
            .iter()
            .find(|(key, _)| !known.contains(&key.name.as_str()) && !is_extension(key))
        {
            Some((key, _)) => {
                let known = known.join(", ");
                Err(key.at.wrong(format!("{what} has no key {:?} here: there are {known}", key.name)))
            }
            None => Ok(()),
        }
    }
}

/// Compose's own place for what is nobody's.
pub(super) fn is_extension(key: &Key) -> bool {
    key.name.starts_with("x-")
}

impl From<Location> for At {
    fn from(location: Location) -> Self {
        Self(location.line(), location.column())
    }
}

impl From<Spanned<Tree>> for Node {
    fn from(spanned: Spanned<Tree>) -> Self {
        Self { at: spanned.referenced.into(), tree: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyTree)
    }
}

struct AnyTree;

impl<'de> Visitor<'de> for AnyTree {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Tree>>()? {
            list.push(item.into());
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = items.next_entry::<Spanned<String>, Spanned<Tree>>()? {
            pairs.push((Key { at: key.referenced.into(), name: key.value }, value.into()));
        }
        Ok(Tree::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_place() {
        let tree = parsed("a:\n  b: 1\n  c: [x, true]\nd:\n").unwrap();
        let pairs = tree.map("it").unwrap();
        assert_eq!((pairs[0].0.at, pairs[1].0.at), (At(1, 1), At(4, 1)));
        let inner = pairs[0].1.map("a").unwrap();
        assert_eq!((inner[1].0.at, inner[1].1.list("c").unwrap()[1].at), (At(3, 3), At(3, 10)));
        assert_eq!(inner[1].1.list("c").unwrap()[1].text("it").unwrap(), "true");
        assert!(pairs[1].1.map("d").unwrap().is_empty());
    }

    #[test]
    fn anchors_are_what_they_stand_for() {
        let tree = parsed("base: &b {x: 1}\none: *b\ntwo:\n  <<: *b\n  y: 2\n").unwrap();
        assert_eq!(tree.get("one").unwrap().get("x").unwrap().text("x").unwrap(), "1");
        assert_eq!(tree.get("two").unwrap().get("x").unwrap().text("x").unwrap(), "1");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let told = |text: &str| parsed(text).unwrap_err().to_string();
        assert!(told("a: [1\n").starts_with("line "), "{}", told("a: [1\n"));
        let tree = parsed("a: 1\nxx: 2\n").unwrap();
        let wrong = tree.ensure_known("service web", &["a", "b"]).unwrap_err().to_string();
        assert_eq!(wrong, "line 2, column 1: service web has no key \"xx\" here: there are a, b");
    }
}
