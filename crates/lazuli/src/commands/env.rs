//! `lazuli env`: the region's environment as shell commands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;

use crate::cli::{Context, Target};
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;

/// Print the region's environment for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eval \"$(lazuli env)\"              bash, zsh, sh
  lazuli env --shell fish | source  fish
  lazuli env --output json          for programs

The variables hold the deployer's credentials of the local region, which are worth nothing outside
it. They point every Azure client of this shell at the region: proxy, CA bundle, an AZURE_CONFIG_DIR
of its own (your `az` login is not touched).")]
pub(crate) struct Args {
    /// Which shell's syntax (default: from $SHELL)
    #[arg(long, value_enum)]
    shell: Option<Shell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// bash, zsh, dash
    Sh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<(), Failure> {
    if cx.global.target == Target::Azure {
        return Err(Failure::new(Exit::Usage, "`lazuli env` describes a local region")
            .advise("Azure itself needs no environment: drop --target azure"));
    }
    let variables = variables(&Environment::load(&cx.global.region)?);
    let shell = args.shell.unwrap_or_else(detect);
    cx.printer.result(&variables, |variables| exports(variables, shell));
    Ok(())
}

fn detect() -> Shell {
    match std::env::var("SHELL") {
        Ok(shell) if shell.ends_with("/fish") => Shell::Fish,
        Ok(shell) if shell.ends_with("/pwsh") => Shell::Powershell,
        _ => Shell::Sh,
    }
}

/// The variables that point any client at the region.
pub(crate) fn variables(environment: &Environment) -> BTreeMap<&'static str, String> {
    let bundle = environment.ca_bundle.display().to_string();
    let secret = environment.client_secret.expose().to_owned();
    let mut variables = BTreeMap::from([
        // Loopback is the app's own: a proxy in between would only confuse.
        ("NO_PROXY", "localhost,127.0.0.1,::1,.localhost".to_owned()),
        ("AZURE_CONFIG_DIR", environment.azure_config_dir.display().to_string()),
        ("AZURE_TENANT_ID", environment.tenant_id.clone()),
        ("AZURE_CLIENT_ID", environment.client_id.clone()),
        ("AZURE_CLIENT_SECRET", secret.clone()),
        ("AZURE_SUBSCRIPTION_ID", environment.subscription_id.clone()),
        ("ARM_TENANT_ID", environment.tenant_id.clone()),
        ("ARM_CLIENT_ID", environment.client_id.clone()),
        ("ARM_CLIENT_SECRET", secret),
        ("ARM_SUBSCRIPTION_ID", environment.subscription_id.clone()),
        ("NODE_EXTRA_CA_CERTS", environment.ca_certificate.display().to_string()),
    ]);
    // A site answers http:// too (with a redirect), so plain HTTP goes through the proxy as well.
    // curl reads only the lower-case `http_proxy`; others only the upper-case names.
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        variables.insert(name, environment.proxy.clone());
    }
    variables.insert("no_proxy", variables["NO_PROXY"].clone());
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        variables.insert(name, bundle.clone());
    }
    variables
}

fn exports(variables: &BTreeMap<&'static str, String>, shell: Shell) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        let _ = match shell {
            Shell::Sh => writeln!(text, "export {name}='{}'", value.replace('\'', r"'\''")),
            Shell::Fish => writeln!(
                text,
                "set -gx {name} '{}'",
                value.replace('\\', r"\\").replace('\'', r"\'")
            ),
            Shell::Powershell => writeln!(text, "$env:{name} = '{}'", value.replace('\'', "''")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_each_shell() {
        let variables = BTreeMap::from([("A", r"it's a \ $HOME".to_owned())]);
        assert_eq!(exports(&variables, Shell::Sh), "export A='it'\\''s a \\ $HOME'\n");
        assert_eq!(exports(&variables, Shell::Fish), "set -gx A 'it\\'s a \\\\ $HOME'\n");
        assert_eq!(exports(&variables, Shell::Powershell), "$env:A = 'it''s a \\ $HOME'\n");
    }
}
