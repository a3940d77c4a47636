//! What a value may be: Azure's rules for names, and our own for paths and commands.
//!
//! Names: <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>.

/// The longest app name: a vault's name has 24 characters, and `{app}-stg-kv` must fit.
pub(super) const MAX_APP: usize = 17;

/// Settings that the platform or the standard owns.
pub(crate) const RESERVED_SETTINGS: &[&str] = &[
    "APP_ENV",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_OPENAI_DEPLOYMENT",
    "AZURE_OPENAI_ENDPOINT",
    "DATABASE_URL",
    "HOME",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MIGRATION_DATABASE_URL",
    "PATH",
    "PORT",
    "PRODUCTION_MIGRATION_DATABASE_URL",
    "REDIS_URL",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
];

/// Prefixes of settings that the platform owns.
const RESERVED_PREFIXES: &[&str] =
    &["APPSETTING_", "CUSTOMCONNSTR_", "POSTGRESQLCONNSTR_", "SCM_", "WEBSITE_", "WEBSITES_"];

/// Words that Azure refuses as a resource's whole name:
/// <https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-reserved-resource-name>.
const RESERVED_WORDS: &[&str] = &[
    "access",
    "azure",
    "bing",
    "bizspark",
    "biztalk",
    "cortana",
    "directx",
    "dotnet",
    "dynamics",
    "excel",
    "exchange",
    "forefront",
    "groove",
    "hololens",
    "hyperv",
    "kinect",
    "lync",
    "msdn",
    "o365",
    "office",
    "office365",
    "onedrive",
    "onenote",
    "outlook",
    "powerpoint",
    "sharepoint",
    "skype",
    "visio",
    "visualstudio",
];

/// Databases that are on every server.
const SYSTEM_DATABASES: &[&str] = &["postgres", "template0", "template1"];

/// What is wrong with an app's name.
pub(super) fn app(name: &str) -> Option<String> {
    let first = name.chars().next()?;
    if let Some(bad) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Some(if bad.is_ascii_uppercase() {
            format!("write it in lower case: `{}`", name.to_ascii_lowercase())
        } else {
            format!("{bad:?} is not a lower-case letter, a digit or a hyphen")
        });
    }
    if !first.is_ascii_lowercase() {
        return Some("it must begin with a letter".to_owned());
    }
    if name.ends_with('-') || name.contains("--") {
        return Some("a hyphen stands alone and not at the end (Key Vault's rule)".to_owned());
    }
    if name.len() < 2 {
        return Some("it must have 2 characters at least".to_owned());
    }
    if name.len() > MAX_APP {
        return Some(format!(
            "it has {} characters; {MAX_APP} is the most, so that the vault's name `{{app}}-stg-kv` keeps to Azure's 24",
            name.len()
        ));
    }
    if RESERVED_WORDS.contains(&name)
        || ["microsoft", "windows"].iter().any(|w| name.contains(w))
        || ["login", "xbox"].iter().any(|w| name.starts_with(w))
    {
        return Some("Azure reserves this name".to_owned());
    }
    if SYSTEM_DATABASES.contains(&name) {
        return Some("a database of this name is on every server".to_owned());
    }
    None
}

/// Azure's public regions that a manifest may mean; others are taken as they are.
const LOCATIONS: &[&str] = &[
    "australiaeast",
    "australiasoutheast",
    "austriaeast",
    "belgiumcentral",
    "brazilsouth",
    "canadacentral",
    "canadaeast",
    "centralindia",
    "centralus",
    "chilecentral",
    "eastasia",
    "eastus",
    "eastus2",
    "francecentral",
    "francesouth",
    "germanynorth",
    "germanywestcentral",
    "indonesiacentral",
    "israelcentral",
    "italynorth",
    "japaneast",
    "japanwest",
    "koreacentral",
    "malaysiawest",
    "mexicocentral",
    "newzealandnorth",
    "northcentralus",
    "northeurope",
    "norwayeast",
    "polandcentral",
    "qatarcentral",
    "southafricanorth",
    "southcentralus",
    "southeastasia",
    "southindia",
    "spaincentral",
    "swedencentral",
    "switzerlandnorth",
    "uaenorth",
    "uksouth",
    "ukwest",
    "westcentralus",
    "westeurope",
    "westindia",
    "westus",
    "westus2",
    "westus3",
];

/// What is wrong with a location.
pub(super) fn location(name: &str) -> Option<String> {
    if LOCATIONS.contains(&name) {
        return None;
    }
    let squeezed: String =
        name.chars().filter(|c| !c.is_whitespace() && *c != '-').collect::<String>().to_lowercase();
    if LOCATIONS.contains(&&*squeezed) {
        return Some(format!("Azure's short name is `{squeezed}`"));
    }
    if let Some(near) = nearest(&squeezed, LOCATIONS.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let plain = name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'));
    (!plain || name.len() > 30 || name.len() < 3)
        .then(|| "a location is Azure's short name, such as `westeurope`".to_owned())
}

/// What is wrong with a Python version. App Service offers these:
/// <https://learn.microsoft.com/azure/app-service/language-support-policy>.
pub(super) fn python(version: &str) -> Option<String> {
    const OFFERED: &[&str] = &["3.10", "3.11", "3.12", "3.13", "3.14"];
    if OFFERED.contains(&version) {
        return None;
    }
    if version == "3.1" {
        return Some("did you mean \"3.10\"?".to_owned());
    }
    if OFFERED.iter().any(|o| version.strip_prefix(o).is_some_and(|r| r.starts_with('.'))) {
        return Some("the platform chooses the patch: give major and minor only".to_owned());
    }
    Some(format!("App Service offers {}", OFFERED.join(", ")))
}

/// What is wrong with `module:attribute`.
pub(super) fn asgi(app: &str) -> Option<String> {
    let identifier = |s: &str| {
        !s.starts_with(|c: char| c.is_ascii_digit())
            && !s.is_empty()
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match app.split_once(':') {
        None => Some("it needs the attribute too: `module:attribute`, e.g. `main:app`".to_owned()),
        Some((module, attribute)) => {
            if module.contains('/')
                || std::path::Path::new(module).extension().is_some_and(|e| e == "py")
            {
                let dotted = module.trim_end_matches(".py").replace('/', ".");
                return Some(format!("it is a module, not a file: `{dotted}:{attribute}`"));
            }
            (!module.split('.').all(identifier) || !attribute.split('.').all(identifier))
                .then(|| "it must be `package.module:attribute`".to_owned())
        }
    }
}

/// What is wrong with a dotted name.
pub(super) fn dotted(name: &str) -> Option<String> {
    let part = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (!name.contains('.') || !name.split('.').all(part))
        .then(|| "it must be `package.Class`".to_owned())
}

/// What is wrong with a path and query.
pub(super) fn path(path: &str) -> Option<String> {
    if path.starts_with("http://") || path.starts_with("https://") {
        return Some("give the path alone: the host differs from slot to slot".to_owned());
    }
    if !path.starts_with('/') {
        return Some(format!("it must begin with a slash: `/{path}`"));
    }
    if path.len() > 1024 {
        return Some("it has more than 1024 characters".to_owned());
    }
    path.chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '"' | '<' | '>' | '\\' | '^' | '`'))
        .map(|c| format!("{c:?} must be percent-encoded in a path"))
}

/// What is wrong with a command.
pub(super) fn command(command: &str) -> Option<String> {
    if command.trim().is_empty() {
        return Some("it is empty".to_owned());
    }
    if command.len() > 4096 {
        return Some("it has more than 4096 characters".to_owned());
    }
    command
        .chars()
        .any(char::is_control)
        .then(|| "it must be one line without control characters".to_owned())
}

/// What is wrong with a domain.
pub(super) fn domain(name: &str) -> Option<String> {
    if name.contains("://") || name.contains('/') {
        return Some("give the host alone, such as `notes.example.com`".to_owned());
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
    };
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Some(format!("write it in lower case: `{}`", short(&name.to_ascii_lowercase())));
    }
    if [".azurewebsites.net", ".azurestaticapps.net"].iter().any(|s| name.ends_with(s)) {
        return Some("this is the name Azure gives; a domain is your own".to_owned());
    }
    let labels: Vec<&str> = name.split('.').collect();
    let top = labels.last().copied().unwrap_or_default();
    let fits = name.len() <= 253
        && labels.len() >= 2
        && labels.iter().all(|l| label(l))
        && top.chars().all(|c| c.is_ascii_lowercase())
        && top.len() >= 2;
    (!fits).then(|| "it must be a domain name such as `notes.example.com`".to_owned())
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What a directory looks like: relative, plain, inside the project.
pub(super) const DIRECTORY: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$";

/// What is wrong with a directory.
pub(super) fn directory(path: &str) -> Option<String> {
    if path.starts_with('/') || path.split('/').any(|p| p == "..") {
        return Some("it must lie inside the project".to_owned());
    }
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && p.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    (path.len() > 200 || !path.split('/').all(part))
        .then(|| "letters, digits, `_`, `.`, `-` and single slashes only".to_owned())
}

/// What is wrong with an origin.
pub(super) fn origin(origin: &str) -> Option<String> {
    let Some(host) = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("wss://"))
    else {
        return Some("it must begin with https:// or wss://".to_owned());
    };
    if host.contains('/') {
        return Some("an origin has no path: leave it out".to_owned());
    }
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    let fits = domain(host.strip_prefix("*.").unwrap_or(host)).is_none()
        || host.ends_with(".azurewebsites.net");
    let fits = fits
        && host.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*".contains(c));
    (!fits || port.parse::<u16>().is_err())
        .then(|| "it must be an origin such as `https://tiles.example.com`".to_owned())
}

/// What is wrong with the name or version of a model.
pub(super) fn model(name: &str) -> Option<String> {
    let fits = (2..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    (!fits).then(|| "2 to 64 letters, digits, `.`, `_` and `-`".to_owned())
}

/// What is wrong with an object ID of Entra ID.
pub(super) fn object_id(id: &str) -> Option<String> {
    let groups: Vec<&str> = id.split('-').collect();
    let fits = groups.len() == 5
        && groups.iter().zip([8, 4, 4, 4, 12]).all(|(group, length)| {
            group.len() == length && group.bytes().all(|b| b.is_ascii_hexdigit())
        });
    (!fits).then(|| "an object ID is a GUID: az ad sp show --id … --query id".to_owned())
}

/// What is wrong with somebody who is told.
pub(super) fn receiver(who: &str) -> Option<String> {
    if who.contains("://") {
        return Some(
            "a webhook's address is a secret: give it a name here, and Terraform the address in TF_VAR_alert_webhooks".to_owned(),
        );
    }
    if let Some((local, host)) = who.split_once('@') {
        let fits = !local.is_empty()
            && who.len() <= 254
            && local.chars().all(|c| c.is_ascii_alphanumeric() || ".!#%&'*+/=?^_-~".contains(c))
            && domain(&host.to_ascii_lowercase()).is_none();
        return (!fits).then(|| "it must be an e-mail address".to_owned());
    }
    let fits = (1..=40).contains(&who.len())
        && who.starts_with(|c: char| c.is_ascii_lowercase())
        && who.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
    (!fits).then(|| "an e-mail address, or a webhook's name such as `pagerduty`".to_owned())
}

/// What is wrong with the name of something in Azure DevOps.
pub(super) fn label(name: &str) -> Option<String> {
    let fits = name.len() <= 64
        && name.trim() == name
        && name.chars().all(|c| c.is_alphanumeric() || " ._-()".contains(c));
    (!fits).then(|| "letters, digits, spaces, `.`, `_`, `-` and brackets only".to_owned())
}

/// Methods of a smoke check.
pub(super) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What is wrong with a method.
pub(super) fn method(method: &str) -> Option<String> {
    if METHODS.contains(&method) {
        return None;
    }
    let near = nearest(&method.to_ascii_uppercase(), METHODS.iter().copied());
    Some(near.map_or_else(
        || format!("expected one of {}", METHODS.join(", ")),
        |near| format!("did you mean `{near}`?"),
    ))
}

/// What is wrong with a path below the project's directory.
pub(super) fn relative(path: &str) -> Option<String> {
    if path.len() > 1024 || path.chars().any(char::is_control) {
        return Some("it is no path".to_owned());
    }
    (path.starts_with('/') || path.split('/').any(|part| part == ".."))
        .then(|| "it must lie below the project's directory".to_owned())
}

/// What is wrong with a setting's name. App Service on Linux takes letters, digits and underscores.
pub(super) fn setting(name: &str) -> Option<String> {
    let fits = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        return Some("letters, digits and underscores only, beginning with a letter".to_owned());
    }
    let upper = name.to_ascii_uppercase();
    if RESERVED_SETTINGS.contains(&&*upper) {
        return Some("the standard sets this one itself".to_owned());
    }
    RESERVED_PREFIXES
        .iter()
        .find(|p| upper.starts_with(**p))
        .map(|p| format!("settings that begin with `{p}` belong to the platform"))
}

/// What is wrong with a secret's name.
pub(super) fn secret(app: &str, name: &str) -> Option<String> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        && !name.ends_with('-')
        && !name.contains("--");
    if !fits {
        let better = name.to_ascii_lowercase().replace('_', "-");
        return Some(format!(
            "lower-case letters, digits and single hyphens, as in `{}`",
            if better == name { "jwt-secret" } else { &better }
        ));
    }
    if app.len() + 1 + name.len() > 127 {
        return Some("with the app's name it has more than Key Vault's 127 characters".to_owned());
    }
    if !app.is_empty() && name.starts_with(&format!("{app}-")) {
        return Some(format!("leave the app's name out: `{}`", &name[app.len() + 1..]));
    }
    if name.starts_with("db-") || name.starts_with("redis-") {
        return Some("the standard makes the secrets of database and cache itself".to_owned());
    }
    setting(&setting_of(name))
}

/// The setting that a secret is read from.
pub(super) fn setting_of(secret: &str) -> String {
    secret.to_ascii_uppercase().replace('-', "_")
}

/// The nearest of some names, if one is near enough to be a typing error.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= (name.len().max(word.len()) / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}
