//! The corpora of the fuzz targets in plain `cargo test`: every file as it is, then damaged, then bytes at random.
//!
//! A corpus is `tests/corpus/TARGET` of the crate whose parser it is for. A finding of the fuzzer goes there as
//! one more file. Fuzzing itself is in `fuzz/`.

use std::fmt;
use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

/// How many damaged and how many random inputs each replay tries.
const CASES: u32 = 256;

/// Hands the corpus of `target` below `crate_dir` (`env!("CARGO_MANIFEST_DIR")`) to a fuzz entry.
///
/// # Panics
/// When the entry does, or when there is no corpus.
pub fn replay(crate_dir: &str, target: &str, entry: fn(&[u8])) {
    let corpus = files(&Path::new(crate_dir).join("tests/corpus").join(target));
    corpus.iter().for_each(|input| entry(input));
    // What fails here becomes a file of the corpus; proptest need not remember it, too.
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let damaged = (select(corpus), vec(damage(), 1..6)).prop_map(|(input, damages)| apply(input, &damages));
    for inputs in [damaged.boxed(), vec(any::<u8>(), 0..300).boxed()] {
        let outcome = runner.run(&inputs.prop_map(Input), |Input(input)| {
            entry(&input);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{target}: {error}"));
    }
}

/// Shown as a string of Rust.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "b\"{}\"", self.0.escape_ascii())
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let listing = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = listing.map(|entry| entry.expect("a folder lists").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).expect("a corpus file is readable")).collect()
}

/// One thing that may happen to an input.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let length = 1..40_usize;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), length.clone()).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), length).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn apply(mut input: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if input.is_empty() {
            break;
        }
        let place = |at: &Index| at.index(input.len());
        let end = |at: usize, length: usize| (at + length).min(input.len());
        match damage {
            Damage::Set(at, byte) => {
                let at = place(at);
                input[at] = *byte;
            }
            Damage::Cut(at) => input.truncate(place(at)),
            Damage::Remove(at, length) => drop(input.drain(place(at)..end(place(at), *length))),
            Damage::Repeat(at, length) => {
                let piece = input[place(at)..end(place(at), *length)].to_vec();
                let at = place(at);
                input.splice(at..at, piece);
            }
        }
    }
    input
}
