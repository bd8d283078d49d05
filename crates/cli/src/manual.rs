//! `zeugma completions` and `zeugma man`: both out of the command line's own definition, so that neither is ever old.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// What to make.
#[derive(Debug, Clone, Args)]
pub(crate) struct Pages {
    /// Writes a page for each command there, such as /usr/local/share/man/man1; without it, the first page goes to
    /// standard output.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The shell's file of completions, to standard output.
pub(crate) fn completions(mut command: Command, shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut text);
    Ok(io::stdout().write_all(&text)?)
}

/// Man pages.
pub(crate) fn man(mut command: Command, pages: &Pages) -> Result<()> {
    command.build();
    match &pages.dir {
        None => Ok(Man::new(command).render(&mut io::stdout())?),
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            below(&command, dir)
        }
    }
}

/// A page for the command, and for each below it.
fn below(command: &Command, dir: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = dir.join(format!("{name}.1"));
    let mut text = Vec::new();
    Man::new(command.clone()).title(name.to_uppercase()).render(&mut text)?;
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    command.get_subcommands().filter(|one| one.get_name() != "help").try_for_each(|one| below(one, dir))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    /// All commands below one, as words in the order in which they are typed.
    fn all_below(command: &Command, before: &[String]) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let mut words = before.to_vec();
            words.push(one.get_name().to_owned());
            found.push(words.clone());
            found.extend(all_below(one, &words));
        }
        found
    }

    #[test]
    fn completions_know_every_command_in_every_shell() {
        let command = Cli::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), "zeugma", &mut text);
            let text = String::from_utf8(text).unwrap();
            for words in all_below(&command, &[]) {
                let last = words.last().unwrap();
                assert!(text.contains(last.as_str()), "{shell}: {words:?}");
            }
            assert!(text.contains("update-failure-action"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_man_page_that_says_what_it_does() {
        let directory = tempfile::tempdir().unwrap();
        man(Cli::command(), &Pages { dir: Some(directory.path().into()) }).unwrap();
        for words in all_below(&Cli::command(), &["zeugma".into()]) {
            let page = directory.path().join(words.join("-") + ".1");
            let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{}", page.display()));
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{words:?}");
        }
    }
}
