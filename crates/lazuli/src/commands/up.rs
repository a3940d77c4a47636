//! `lazuli up`.

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, _cx: &Context) -> Result<(), Failure> {
    Err(Failure::new(Exit::Unexpected, "`lazuli up` is not built yet"))
}
