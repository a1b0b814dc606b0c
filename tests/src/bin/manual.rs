//! `manual DIR`: the man pages and shell completions of everything that is shipped, from the very definitions that read
//! the command lines. `packaging/packages.sh` takes them from DIR; no program carries them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

/// Shells whose completions distributions have a place for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// A program, and the section of the manual that it belongs to.
struct Program {
    command: Command,
    section: &'static str,
}

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).context("usage: manual DIR")?);
    for program in programs() {
        let name = program.command.get_name().to_owned();
        let (pages, completions) = (dir.join("man").join(&name), dir.join("completions"));
        for made in [&pages, &completions] {
            fs::create_dir_all(made).with_context(|| format!("make {}", made.display()))?;
        }
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut program.command.clone(), &name, &completions)
                .with_context(|| format!("write the completions of {name} for {shell}"))?;
        }
        let mut command = program.command.disable_help_subcommand(true);
        // Gives each subcommand its whole name.
        command.build();
        write_pages(&command, program.section, &pages).with_context(|| format!("write the manual of {name}"))?;
    }
    Ok(())
}

fn programs() -> [Program; 3] {
    // 8 is for those who run a system, 1 for everybody.
    [
        Program { command: launchpad_agent::config::Cli::command(), section: "8" },
        Program { command: launchpad_coordinator::config::Arguments::command(), section: "8" },
        Program { command: launchpad::command_line(), section: "1" },
    ]
}

/// A page for a command, and one for each of its subcommands.
fn write_pages(command: &Command, section: &str, dir: &Path) -> Result<()> {
    Man::new(command.clone()).section(section).generate_to(dir)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write_pages(below, section, dir))
}
