//! `lazuli env`: the region's environment as shell commands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;

use crate::cli::{As, Context, Target};
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;

/// Print the region's environment for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eval \"$(lazuli env)\"              bash, zsh, sh
  lazuli env --shell fish | source  fish
  lazuli env --output json          for programs
  eval \"$(lazuli env --as developer)\" && az login    as a person, with the rights they were given

The variables hold the deployer's credentials of the local region, which are worth nothing outside
it. They point every Azure client of this shell at the region: proxy, CA bundle, an AZURE_CONFIG_DIR
of its own (your `az` login is not touched).")]
pub(crate) struct Args {
    /// Which shell's syntax (default: from $SHELL)
    #[arg(long, value_enum)]
    shell: Option<Shell>,
    /// Who programs are there
    #[arg(long = "as", value_enum, value_name = "WHO", default_value_t)]
    who: As,
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
    let variables = variables(&Environment::load(&cx.global.region)?, args.who, &cx.global.region);
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

/// Variables by name; `None` for what must not be set.
pub(crate) type Variables = BTreeMap<&'static str, Option<String>>;

/// The variables that point any client at the region, as `who`.
pub(crate) fn variables(environment: &Environment, who: As, region: &str) -> Variables {
    let bundle = environment.ca_bundle.display().to_string();
    let mut variables = BTreeMap::from([
        // Loopback is the app's own: a proxy in between would only confuse.
        ("NO_PROXY", "localhost,127.0.0.1,::1,.localhost".to_owned()),
        ("AZURE_TENANT_ID", environment.tenant_id.clone()),
        ("AZURE_SUBSCRIPTION_ID", environment.subscription_id.clone()),
        ("ARM_TENANT_ID", environment.tenant_id.clone()),
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
    let mut variables: Variables =
        variables.into_iter().map(|(name, value)| (name, Some(value))).collect();
    variables.extend(match who {
        As::Deployer => deployer(environment),
        As::Developer => developer(environment, region),
    });
    variables
}

fn deployer(environment: &Environment) -> Variables {
    let secret = environment.client_secret.expose().to_owned();
    BTreeMap::from([
        ("AZURE_CONFIG_DIR", Some(environment.azure_config_dir.display().to_string())),
        ("AZURE_CLIENT_ID", Some(environment.client_id.clone())),
        ("AZURE_CLIENT_SECRET", Some(secret.clone())),
        ("ARM_CLIENT_ID", Some(environment.client_id.clone())),
        ("ARM_CLIENT_SECRET", Some(secret)),
    ])
}

/// A person has no secret of an application's, and one that was set before is taken away: clients would
/// prefer it. `az` signs in through a browser, and the region's own answers for the developer.
fn developer(environment: &Environment, region: &str) -> Variables {
    let directory = environment.azure_config_dir.with_file_name("azure-developer");
    let mut variables = BTreeMap::from([
        ("AZURE_CONFIG_DIR", Some(directory.display().to_string())),
        ("LAZULI_DEVELOPER", Some(environment.developer.clone())),
        ("LAZULI_DEVELOPER_PASSWORD", Some(environment.developer_password.expose().to_owned())),
    ]);
    for name in ["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "ARM_CLIENT_ID", "ARM_CLIENT_SECRET"] {
        variables.insert(name, None);
    }
    if let Ok(program) = std::env::current_exe() {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let program = quoted(&program.display().to_string());
        // In the background: the program that opens the page answers only once it is open.
        let command = format!("{program} --region {} __sign-in %s &", quoted(region));
        variables.insert("BROWSER", Some(command));
    }
    variables
}

fn exports(variables: &Variables, shell: Shell) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        let Some(value) = value else {
            let _ = match shell {
                Shell::Sh => writeln!(text, "unset {name}"),
                Shell::Fish => writeln!(text, "set -e {name}"),
                Shell::Powershell => {
                    writeln!(text, "Remove-Item Env:{name} -ErrorAction Ignore")
                }
            };
            continue;
        };
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
        let variables = BTreeMap::from([("A", Some(r"it's a \ $HOME".to_owned()))]);
        assert_eq!(exports(&variables, Shell::Sh), "export A='it'\\''s a \\ $HOME'\n");
        assert_eq!(exports(&variables, Shell::Fish), "set -gx A 'it\\'s a \\\\ $HOME'\n");
        assert_eq!(exports(&variables, Shell::Powershell), "$env:A = 'it''s a \\ $HOME'\n");
    }
}
