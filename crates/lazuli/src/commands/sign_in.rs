//! `lazuli __sign-in`: the browser of `lazuli run --as developer`. What `az login` opens a browser for
//! is answered in the developer's name, as a browser does that has signed them in before.

use lazuli_azure::{Connection, Secret, browser};

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address that was to be opened
    address: String,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let environment = Environment::load(&cx.global.region)?;
    let roots = std::fs::read_to_string(&environment.ca_certificate).map_err(|error| {
        Failure::new(Exit::Target, "cannot connect to the region").because(&error)
    })?;
    // Inside the region's network its proxy has another address than outside.
    let proxy = std::env::var("HTTPS_PROXY").ok().filter(|proxy| !proxy.is_empty());
    let connection =
        Connection { proxy: Some(proxy.unwrap_or(environment.proxy)), roots: Some(roots) };
    let password = Secret::new(environment.developer_password.expose());
    browser::sign_in(&connection, &args.address, &environment.developer, &password).await.map_err(
        |error| {
            Failure::new(Exit::Target, "the developer is not signed in")
                .cause(error.to_string())
                .advise(format!("open the page in a browser of your own: {}", args.address))
        },
    )
}
