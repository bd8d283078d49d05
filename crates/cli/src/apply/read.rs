//! A file's text as objects with their places, or everything that is wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::object::Object;
use super::{toml, yaml};

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

/// Line and column, both from 1.
pub(crate) type Position = (usize, usize);
/// What a format's reader finds, each with its position.
pub(super) type Found<T> = Vec<(Position, T)>;

/// The objects of a file, in its order.
///
/// # Errors
/// All that is wrong.
pub(super) fn objects(file: &Path, text: &str) -> Result<Vec<(Place, Object)>, Vec<Complaint>> {
    let place = |(line, column)| Place { file: file.into(), line, column };
    let (objects, complaints) = if is_toml(file, text) { toml::read(text) } else { yaml::read(text) };
    if complaints.is_empty() {
        return Ok(objects.into_iter().map(|(at, object)| (place(at), object)).collect());
    }
    let complaint = |(at, message)| Complaint { place: place(at), message };
    Err(complaints.into_iter().map(complaint).collect())
}

/// By the name; where that says nothing, by the first line that does: `[[service]]` and `key = …` are TOML's.
fn is_toml(file: &Path, text: &str) -> bool {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => true,
        Some("yaml" | "yml" | "json") => false,
        _ => {
            let mut lines = text.lines().map(str::trim);
            let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
            first.is_some_and(|line| {
                let key = line.split_once('=').is_some_and(|(key, _)| !key.contains([':', '{', '"']));
                line.starts_with("[[") || key
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_known_by_the_name_or_else_by_the_text() {
        assert!(is_toml(Path::new("a.toml"), "kind: service"));
        assert!(!is_toml(Path::new("a.yml"), "[[service]]"));
        let stdin = Path::new("-");
        for text in ["# mine\n\n[[service]]\n", "name = \"web\"", "\n service = []"] {
            assert!(is_toml(stdin, text), "{text}");
        }
        for text in ["", "---\nkind: service", "kind: service\nlabels: {a: b=c}", "{\"kind\": \"a=b\"}"] {
            assert!(!is_toml(stdin, text), "{text}");
        }
    }
}
