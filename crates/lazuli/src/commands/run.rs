//! `lazuli run`: a command inside the region's environment.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use lazuli_host::{Inside, edge};
use lazuli_region::appservice::adapters;
use lazuli_region::directory::Directory;

use crate::cli::{As, Context, Target};
use crate::commands::env::{self, Variables};
use crate::diagnostics::Failure;
use crate::environment::{Environment, flag};
use crate::exit::Exit;

/// Run a command inside the region's environment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli run -- curl -fsS https://notes.azurewebsites.net/health/ready
  lazuli run -- az webapp list --output table
  lazuli run --as developer -- az login       as a person, with the rights they were given
  lazuli run --inside -- psql \"$DATABASE\"   from inside the VNet, as from the standard's Bastion

The command takes lazuli's place: its exit code is lazuli's.")]
pub(crate) struct Args {
    /// Run it inside the region's network (the mgmt subnet), where databases and caches answer
    #[arg(long)]
    inside: bool,
    /// Who the command is there
    #[arg(long = "as", value_enum, value_name = "WHO", default_value_t)]
    who: As,
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
    let variables = env::variables(&environment, args.who, &cx.global.region);
    if args.inside {
        return inside(args.command, &environment, variables, cx);
    }
    let (program, rest) = args.command.split_first().ok_or_else(|| {
        Failure::new(Exit::Usage, "no command given").advise("lazuli run -- CMD ARG…")
    })?;
    let mut command = Command::new(program);
    command.args(rest);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let error = command.exec();
    Err(Failure::new(Exit::Usage, format!("cannot run {}", program.display())).because(&error))
}

/// In the region's namespaces. The process has one thread here, which entering demands.
fn inside(
    argv: Vec<OsString>,
    environment: &Environment,
    variables: Variables,
    cx: &Context,
) -> Result<ExitCode, Failure> {
    let region = &cx.global.region;
    let running = edge::running(&environment.dir).ok_or_else(|| {
        Failure::new(Exit::Target, format!("the region `{region}` is not running"))
            .advise(format!("start it: lazuli region start{}", flag(region)))
    })?;
    // The proxy of `lazuli env` is the machine's side. Inside, private names lead where they lead in the
    // VNet, and the rest (Resource Manager, Entra ID) is behind the proxy that apps use: what an agent
    // in the VNet reaches, `terraform apply` with its secrets reaches here.
    let skip = |name: &str| name.to_ascii_lowercase().ends_with("_proxy");
    let mut env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| !skip(&name.to_string_lossy())).collect();
    env.retain(|(name, _)| !variables.contains_key(&*name.to_string_lossy()));
    env.extend(
        variables
            .into_iter()
            .filter(|(name, _)| !skip(name))
            .filter_map(|(name, value)| Some((name.into(), value?.into()))),
    );
    let directory = Directory::at(&environment.dir);
    // Private names too: a private endpoint that comes or goes while the command runs is followed there.
    env.extend(adapters::proxied([]).into_iter().map(|(n, v)| (n.into(), v.into())));
    lazuli_host::enter(&Inside {
        init: running.init,
        cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        argv,
        env,
        hosts: Some(directory.hosts()).filter(|path| path.exists()),
        ca_bundle: Some(environment.ca_bundle.clone()),
    })
    .map_err(|error| {
        Failure::new(Exit::Target, format!("cannot enter the region `{region}`")).because(&error)
    })
}
