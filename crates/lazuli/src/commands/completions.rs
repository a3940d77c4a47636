//! `lazuli completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Context};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli completions bash > ~/.local/share/bash-completion/completions/lazuli
  lazuli completions fish > ~/.config/fish/completions/lazuli.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, cx: &Context) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lazuli", &mut script);
    cx.printer.raw(&script);
}
