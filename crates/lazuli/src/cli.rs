//! The command line: global options and the list of commands.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::printer::Printer;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  lazuli up examples/notes         start a local region, provision, make the first release
  lazuli deploy                    release what is in this directory through the staging slot
  lazuli rollback                  put the previous version back, in under a second
  lazuli run -- az webapp list     run any Azure client against the local region
  eval \"$(lazuli env)\"             the same for the rest of this shell

Exit codes: 0 done, 3 wrong project, 4 target unreachable, 5 provisioning failed, 6 release failed
before production was touched, 7 production affected, 8 locked, 9 nothing to roll back to.
`lazuli help COMMAND` says more about each command.";

/// The Azure deployment standard as one binary: a local region, and the release process that ships
/// to it and to Azure alike.
#[derive(Debug, Parser)]
#[command(name = "lazuli", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The local region: a name, or a directory when it contains a `/`
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "LAZULI_REGION",
        default_value = crate::environment::DEFAULT_REGION
    )]
    pub(crate) region: String,
    /// Which environment of the app [default: prod; render: all]
    #[arg(long = "env", global = true, value_name = "ENV", value_enum)]
    pub(crate) named_env: Option<EnvironmentName>,
    /// Where it runs: the region on this machine, or Azure
    #[arg(long, global = true, value_name = "TARGET", value_enum, default_value_t = Target::Local)]
    pub(crate) target: Target,
    /// How to print: for people, or JSON for programs
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// When to use colour (`NO_COLOR` is honoured)
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Say more about what happens; twice for every request
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// The project: where `lazuli.yaml` is (default: here, or the nearest directory above)
    #[arg(long, short = 'C', global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

impl Global {
    /// The environment the command is about.
    pub(crate) fn env(&self) -> EnvironmentName {
        self.named_env.unwrap_or(EnvironmentName::Prod)
    }
}

/// The standard's environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvironmentName {
    Dev,
    Staging,
    Prod,
}

impl EnvironmentName {
    /// The standard's environment of this name.
    pub(crate) fn environment(self) -> lazuli_standard::Environment {
        match self {
            Self::Dev => lazuli_standard::Environment::Dev,
            Self::Staging => lazuli_standard::Environment::Staging,
            Self::Prod => lazuli_standard::Environment::Prod,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }
}

/// Who answers the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Local,
    Azure,
}

/// Who a program inside the region's environment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum As {
    /// The application that the region is made with: Owner of the subscription
    #[default]
    Deployer,
    /// A person, who signs in with `az login` and has the rights they were given
    Developer,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// The commands, in the order a newcomer meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the region, provision and make the first release: the one command to begin with
    Up(commands::up::Args),
    /// Look at a Python project and write its first manifest
    Init(commands::init::Args),
    /// Create or update the Azure resources the manifest asks for
    Provision(commands::provision::Args),
    /// Release this directory: gates, staging slot, migrations, checks, swap, watch
    Deploy(commands::deploy::Args),
    /// Exchange the staging slot and production, without a new deployment
    Swap(commands::swap::Args),
    /// Put the previous version back into production
    Rollback(commands::rollback::Args),
    /// List the releases, or tell the story of one
    Releases(commands::releases::Args),
    /// Show sites, slots, instances, health and what is deployed
    Status(commands::status::Args),
    /// Show the logs of an app
    Logs(commands::logs::Args),
    /// List, audit and rotate the app's secrets
    Secrets(commands::secrets::Args),
    /// Run a command inside the region's environment
    Run(commands::run::Args),
    /// Print the region's environment for a shell
    Env(commands::env::Args),
    /// Write Terraform, pipelines and the front end's configuration from the manifest
    Render(commands::render::Args),
    /// Estimate what each environment costs a month
    Cost(commands::cost::Args),
    /// Show how the environments differ, and why they may
    Parity(commands::parity::Args),
    /// Start, stop and look after the local region
    Region(commands::region::Args),
    /// Judge Terraform, pipelines, settings and Python projects by the standard
    Check(commands::check::Args),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
    /// Sign the developer in at the page that a program opened a browser for
    #[command(hide = true, name = "__sign-in")]
    SignIn(commands::sign_in::Args),
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) printer: Printer,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let printer = Printer::new(global.output, global.color, global.quiet);
        printer.init_logging(global.verbose);
        Self { global, printer }
    }
}

impl Context {
    /// The options that make another command mean the same app and region, for advice: each with a
    /// space before it.
    pub(crate) fn flags(&self) -> String {
        let Global { region, directory, .. } = &self.global;
        let env = self.global.env();
        let mut flags = match self.global.target {
            Target::Local => crate::environment::flag(region),
            Target::Azure => " --target azure".to_owned(),
        };
        if env != EnvironmentName::Prod {
            flags.push_str(" --env ");
            flags.push_str(env.as_str());
        }
        if let Some(directory) = directory {
            flags.push_str(" -C ");
            flags.push_str(&directory.display().to_string());
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
