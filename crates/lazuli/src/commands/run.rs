//! `lazuli run`: a command inside the region's environment.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::cli::{Context, Target};
use crate::commands::env;
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;

/// Run a command inside the region's environment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli run -- curl -fsS https://notes.azurewebsites.net/health/ready
  lazuli run -- az webapp list --output table
  lazuli run --inside -- psql \"$DATABASE\"   from inside the VNet, as from the standard's Bastion

The command takes lazuli's place: its exit code is lazuli's.")]
pub(crate) struct Args {
    /// Run it inside the region's network (the mgmt subnet), where databases and caches answer
    #[arg(long)]
    inside: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<ExitCode, Failure> {
    if cx.global.target == Target::Azure {
        return Err(Failure::new(
            Exit::Usage,
            "`lazuli run` runs a command against a local region",
        )
        .advise("Azure itself needs no environment: run the command as it is"));
    }
    let environment = Environment::load(&cx.global.region)?;
    let variables = env::variables(&environment);
    if args.inside {
        return Err(Failure::new(Exit::Unexpected, "`lazuli run --inside` is not built yet"));
    }
    let (program, rest) = args.command.split_first().ok_or_else(|| {
        Failure::new(Exit::Usage, "no command given").advise("lazuli run -- CMD ARG…")
    })?;
    let error = Command::new(program).args(rest).envs(variables).exec();
    Err(Failure::new(Exit::Usage, format!("cannot run {}", program.display())).because(&error))
}
