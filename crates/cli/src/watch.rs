//! `--watch`: a list again whenever it is another, on a terminal in the place of the one before.

use std::io::{IsTerminal, Write, stdout};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// How a list is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Listing {
    /// Prints JSON: see docs/reference/cli.md.
    #[arg(long)]
    pub(crate) json: bool,
    /// Goes on: on a terminal the list is drawn again when it changes, elsewhere another one is printed, with --json a
    /// line each.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Home, and clear what is below.
const AGAIN: &str = "\x1b[H\x1b[2J";

impl Listing {
    /// Prints what `fetch` gets, which is told the revision of what it got last, and `table` makes of it for people.
    ///
    /// # Errors
    /// Those of `fetch`; a list that cannot be printed because nobody reads it any more ends in silence.
    pub(crate) fn print<T: Serialize>(
        self,
        mut fetch: impl FnMut(Option<u64>) -> Result<(T, u64)>,
        table: impl Fn(&T) -> String,
    ) -> Result<()> {
        let (mut after, mut before) = (None, None);
        loop {
            let (list, revision) = fetch(after)?;
            let text = match (self.json, self.watch) {
                (false, _) => table(&list),
                (true, false) => serde_json::to_string_pretty(&list)? + "\n",
                (true, true) => serde_json::to_string(&list)? + "\n",
            };
            if before.as_ref() != Some(&text) && !self.shown(&text, before.is_none()) {
                return Ok(());
            }
            if !self.watch {
                return Ok(());
            }
            (after, before) = (Some(revision), Some(text));
        }
    }

    /// Whether anybody saw it.
    fn shown(self, text: &str, is_first: bool) -> bool {
        let mut out = stdout().lock();
        let between = match (self.json, self.watch) {
            (false, true) if out.is_terminal() => AGAIN,
            (false, true) if !is_first => "\n",
            _ => "",
        };
        write!(out, "{between}{text}").and_then(|()| out.flush()).is_ok()
    }
}
