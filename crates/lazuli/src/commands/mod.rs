//! One file a command. A command reads its arguments, calls the crate that does the work and prints
//! what came of it.

use std::process::ExitCode;

use crate::cli::{Command, Context};
use crate::diagnostics::Failure;
use crate::exit::Exit;

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod deploy;
pub(crate) mod env;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod parity;
pub(crate) mod provision;
pub(crate) mod region;
pub(crate) mod releases;
pub(crate) mod render;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod sign_in;
pub(crate) mod status;
pub(crate) mod swap;
pub(crate) mod up;

/// Runs the command. Those that need no network run without a runtime; `run` must, because it
/// enters namespaces, which only a single-threaded process may.
pub(crate) fn dispatch(command: Command, cx: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => return run::run(args, cx),
        Command::Env(args) => return env::run(&args, cx).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => return check::run(&args, cx),
        Command::Cost(args) => return cost::run(&args, cx).map(|()| ExitCode::SUCCESS),
        Command::Init(args) => return init::run(&args, cx).map(|()| ExitCode::SUCCESS),
        Command::Render(args) => return render::run(&args, cx),
        Command::Parity(args) => return parity::run(&args, cx).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => {
            completions::run(&args, cx);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Unexpected, "cannot start the asynchronous runtime").because(&error)
    })?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args, cx).await,
            Command::Provision(args) => provision::run(args, cx).await,
            Command::Deploy(args) => deploy::run(args, cx).await,
            Command::Swap(args) => swap::run(args, cx).await,
            Command::Rollback(args) => rollback::run(args, cx).await,
            Command::Releases(args) => releases::run(args, cx).await,
            Command::Status(args) => status::run(args, cx).await,
            Command::Secrets(args) => secrets::run(args, cx).await,
            Command::Logs(args) => logs::run(args, cx).await,
            Command::Region(args) => region::run(args, cx).await,
            Command::SignIn(args) => sign_in::run(args, cx).await,
            Command::Run(_)
            | Command::Env(_)
            | Command::Check(_)
            | Command::Cost(_)
            | Command::Init(_)
            | Command::Render(_)
            | Command::Parity(_)
            | Command::Completions(_) => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
