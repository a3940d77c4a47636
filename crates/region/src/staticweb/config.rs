//! `staticwebapp.config.json`, read and checked when content is deployed
//! (<https://learn.microsoft.com/azure/static-web-apps/configuration>).

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use lazuli_gateway::Network;
use serde::Deserialize;

use super::pattern::Pattern;

/// The file's name.
pub const NAME: &str = "staticwebapp.config.json";
/// Azure's limits on it.
const MAX_BYTES: usize = 20 * 1024;
const MAX_ROLES: usize = 50;

/// A configuration that can be acted upon.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In order: the first that fits a request is the only one.
    pub routes: Vec<Route>,
    /// What is shown where there is no file.
    pub fallback: Option<Fallback>,
    /// What is answered instead of an error.
    pub overrides: BTreeMap<u16, Override>,
    /// Set on every answer that is not the back end's; `None` takes a field out.
    pub headers: Headers,
    /// By extension, in lower case, without its dot.
    pub mime: BTreeMap<String, HeaderValue>,
    /// `trailingSlash`.
    pub slash: Slash,
    /// `networking.allowedIpRanges`; empty lets everybody in.
    pub allowed: Vec<Range>,
    /// `forwardingGateway.requiredHeaders`.
    pub required: Vec<(HeaderName, String)>,
    /// `forwardingGateway.allowedForwardedHosts`.
    pub forwarded_hosts: Vec<String>,
}

/// Fields to set, or to take out.
pub type Headers = Vec<(HeaderName, Option<HeaderValue>)>;

/// A rule of `routes`.
#[derive(Clone, Debug)]
pub struct Route {
    pattern: Pattern,
    /// Empty stands for all.
    methods: Vec<Method>,
    /// Whether somebody who has not signed in may pass.
    pub anonymous: bool,
    /// A path of the site that is shown instead.
    pub rewrite: Option<String>,
    /// Where the client is sent.
    pub redirect: Option<String>,
    /// The answer's status.
    pub status: Option<StatusCode>,
    /// Set on the answer.
    pub headers: Headers,
}

/// `navigationFallback`.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// The page.
    pub rewrite: String,
    exclude: Vec<Pattern>,
}

impl Fallback {
    /// Whether it stands in for a path.
    pub fn covers(&self, path: &str) -> bool {
        !self.exclude.iter().any(|pattern| pattern.fits(path))
    }
}

/// One of `responseOverrides`.
#[derive(Clone, Debug)]
pub struct Override {
    /// A path of the site that is shown instead.
    pub rewrite: Option<String>,
    /// Where the client is sent.
    pub redirect: Option<String>,
    /// The status instead.
    pub status: Option<StatusCode>,
}

/// `trailingSlash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slash {
    /// Not said.
    #[default]
    Unset,
    /// Every page's address ends in a slash.
    Always,
    /// None does.
    Never,
    /// A folder's does, a file's does not.
    Auto,
}

/// Of `allowedIpRanges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// An address or a block of them.
    Network(Network),
    /// A service tag: nobody who asks a region comes from one.
    Tag,
}

impl Config {
    /// The rule that a request meets.
    pub fn route(&self, method: &Method, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| {
            (route.methods.is_empty() || route.methods.contains(method)) && route.pattern.fits(path)
        })
    }

    /// Reads the file's bytes; says what is wrong with them, in the words that Azure's own check begins with.
    /// `standard` is whether the site has the Standard plan.
    pub fn parse(bytes: &[u8], standard: bool) -> Result<Self, String> {
        read(bytes, standard)
            .map_err(|why| format!("Encountered an issue while validating {NAME}: {why}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "$schema")]
    _schema: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    routes: Vec<FileRoute>,
    navigation_fallback: Option<FileFallback>,
    #[serde(default)]
    response_overrides: BTreeMap<String, FileOverride>,
    #[serde(default)]
    global_headers: BTreeMap<String, String>,
    #[serde(default)]
    mime_types: BTreeMap<String, String>,
    trailing_slash: Option<Slash>,
    networking: Option<FileNetworking>,
    forwarding_gateway: Option<FileGateway>,
    auth: Option<serde::de::IgnoredAny>,
    platform: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileRoute {
    route: String,
    methods: Option<Vec<String>>,
    rewrite: Option<String>,
    redirect: Option<String>,
    status_code: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    allowed_roles: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileFallback {
    rewrite: String,
    #[serde(default)]
    exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileOverride {
    rewrite: Option<String>,
    redirect: Option<String>,
    status_code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileNetworking {
    #[serde(default)]
    allowed_ip_ranges: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileGateway {
    #[serde(default)]
    allowed_forwarded_hosts: Vec<String>,
    #[serde(default)]
    required_headers: BTreeMap<String, String>,
}

fn read(bytes: &[u8], standard: bool) -> Result<Config, String> {
    if bytes.len() > MAX_BYTES {
        return Err("The file size exceeds the limit of 20 KB.".to_owned());
    }
    // Editors on Windows begin a file so.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut roles = BTreeSet::new();
    let routes =
        file.routes.into_iter().map(|rule| route(rule, &mut roles)).collect::<Result<_, _>>()?;
    if roles.len() > MAX_ROLES {
        return Err(format!("there are {} distinct roles, and {MAX_ROLES} may be.", roles.len()));
    }
    let fallback = file.navigation_fallback.map(fallback).transpose()?;
    let overrides = file
        .response_overrides
        .into_iter()
        .map(|(code, instead)| response_override(&code, instead))
        .collect::<Result<_, _>>()?;
    let networking = file.networking.map(|n| n.allowed_ip_ranges).unwrap_or_default();
    if !networking.is_empty() && !standard {
        return Err("networking needs the Standard plan.".to_owned());
    }
    if file.forwarding_gateway.is_some() && !standard {
        return Err("forwardingGateway needs the Standard plan.".to_owned());
    }
    if file.auth.is_some() && !standard {
        return Err("auth (a custom provider) needs the Standard plan.".to_owned());
    }
    let _ = file.platform;
    let gateway = file.forwarding_gateway.unwrap_or(FileGateway {
        allowed_forwarded_hosts: Vec::new(),
        required_headers: BTreeMap::new(),
    });
    let mime = file.mime_types.into_iter().map(|(name, kind)| mime(&name, &kind));
    let required = gateway.required_headers.into_iter().map(|(name, value)| {
        let field = name.parse().map_err(|_| format!("'{name}' is no header's name."))?;
        Ok((field, value))
    });
    Ok(Config {
        routes,
        fallback,
        overrides,
        headers: headers(file.global_headers)?,
        mime: mime.collect::<Result<_, String>>()?,
        slash: file.trailing_slash.unwrap_or_default(),
        allowed: networking.iter().map(|text| range(text)).collect::<Result<_, _>>()?,
        required: required.collect::<Result<_, String>>()?,
        forwarded_hosts: gateway
            .allowed_forwarded_hosts
            .into_iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
    })
}

fn route(rule: FileRoute, roles: &mut BTreeSet<String>) -> Result<Route, String> {
    let at = rule.route.clone();
    let pattern = Pattern::parse(&at)?;
    let wrong = |what: &str| format!("the route '{at}' {what}");
    if rule.rewrite.is_some() && rule.redirect.is_some() {
        return Err(wrong("has both rewrite and redirect: they exclude one another"));
    }
    if let Some(target) = &rule.redirect
        && pattern.fits(target)
        && target.starts_with('/')
    {
        return Err(wrong("redirects to itself"));
    }
    let status = rule.status_code.map(|code| status(code, &at)).transpose()?;
    if let (Some(_), Some(status)) = (&rule.redirect, status)
        && !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
    {
        return Err(wrong(&format!("redirects with the status {status}")));
    }
    let named = rule.methods.unwrap_or_default();
    let methods = named.iter().map(|name| {
        const KNOWN: [&str; 9] =
            ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        let name = name.to_ascii_uppercase();
        let known =
            KNOWN.contains(&name.as_str()).then(|| Method::from_bytes(name.as_bytes()).ok());
        known.flatten().ok_or_else(|| wrong(&format!("names the method '{name}'")))
    });
    let methods = methods.collect::<Result<_, String>>()?;
    let mut anonymous = rule.allowed_roles.is_none();
    for role in rule.allowed_roles.into_iter().flatten() {
        if role.is_empty() || !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(wrong(&format!(
                "names the role '{role}': a role has letters, digits and '_'"
            )));
        }
        anonymous |= role.eq_ignore_ascii_case("anonymous");
        roles.insert(role);
    }
    Ok(Route {
        pattern,
        methods,
        anonymous,
        rewrite: rule.rewrite.map(|path| local(&path, &at)).transpose()?,
        redirect: rule.redirect.map(|to| target(to, &at)).transpose()?,
        status,
        headers: headers(rule.headers)?,
    })
}

fn fallback(file: FileFallback) -> Result<Fallback, String> {
    let exclude = file.exclude.iter().map(|text| Pattern::parse(text));
    Ok(Fallback {
        rewrite: local(&file.rewrite, "navigationFallback")?,
        exclude: exclude.collect::<Result<_, _>>()?,
    })
}

fn response_override(code: &str, file: FileOverride) -> Result<(u16, Override), String> {
    let number = match code {
        "400" => 400,
        "401" => 401,
        "403" => 403,
        "404" => 404,
        _ => {
            return Err(format!(
                "responseOverrides has '{code}': 400, 401, 403 and 404 may be overridden."
            ));
        }
    };
    if file.rewrite.is_some() && file.redirect.is_some() {
        return Err(format!("the override of {code} has both rewrite and redirect."));
    }
    Ok((
        number,
        Override {
            rewrite: file.rewrite.map(|path| local(&path, code)).transpose()?,
            redirect: file.redirect.map(|to| target(to, code)).transpose()?,
            status: file.status_code.map(|number| status(number, code)).transpose()?,
        },
    ))
}

/// A path of the site: what is rewritten stays inside it.
fn local(path: &str, at: &str) -> Result<String, String> {
    if path.contains("://") || path.starts_with("//") {
        return Err(format!(
            "the rewrite '{path}' of '{at}' leads out of the site: rewrites are relative to its root."
        ));
    }
    if path.is_empty()
        || path.contains(['\\', '\0', '*'])
        || path.split('/').any(|part| part == "..")
    {
        return Err(format!("the rewrite '{path}' of '{at}' is no path of the site."));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn target(to: String, at: &str) -> Result<String, String> {
    let fits = (to.starts_with('/') || to.starts_with("https://") || to.starts_with("http://"))
        && HeaderValue::from_str(&to).is_ok();
    if fits { Ok(to) } else { Err(format!("the redirect '{to}' of '{at}' is no address.")) }
}

fn status(code: u16, at: &str) -> Result<StatusCode, String> {
    let status =
        StatusCode::from_u16(code).ok().filter(|status| (200..600).contains(&status.as_u16()));
    status.ok_or_else(|| format!("the statusCode {code} of '{at}' is no status of an answer."))
}

fn headers(file: BTreeMap<String, String>) -> Result<Headers, String> {
    file.into_iter()
        .map(|(name, value)| {
            let field: HeaderName =
                name.parse().map_err(|_| format!("'{name}' is no header's name."))?;
            // How long a message is, and how it is framed, is not for a site to say.
            if matches!(field.as_str(), "content-length" | "transfer-encoding" | "connection") {
                return Err(format!("the header {name} cannot be set."));
            }
            let value = match value.as_str() {
                "" => None,
                text => Some(
                    HeaderValue::from_str(text)
                        .map_err(|_| format!("the value of the header {name} is none."))?,
                ),
            };
            Ok((field, value))
        })
        .collect()
}

fn mime(name: &str, kind: &str) -> Result<(String, HeaderValue), String> {
    let Some(extension) = name.strip_prefix('.').filter(|extension| !extension.is_empty()) else {
        return Err(format!("mimeTypes has '{name}': an extension begins with a dot."));
    };
    let value = HeaderValue::from_str(kind).ok().filter(|_| kind.contains('/'));
    let value = value.ok_or_else(|| format!("the MIME type '{kind}' of '{name}' is none."))?;
    Ok((extension.to_ascii_lowercase(), value))
}

fn range(text: &str) -> Result<Range, String> {
    if let Ok(network) = text.parse() {
        return Ok(Range::Network(network));
    }
    let tag = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    if tag {
        return Ok(Range::Tag);
    }
    Err(format!(
        "allowedIpRanges has '{text}', which is neither a block in CIDR notation nor a service tag."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(text.as_bytes(), true).expect_err(text)
    }

    #[test]
    fn what_cannot_be_acted_upon_is_refused_with_its_reason() {
        for (text, word) in [
            ("{", "EOF"),
            ("[]", "expected"),
            (r#"{"route":[]}"#, "unknown field `route`"),
            (r#"{"routes":[{"rewrite":"/a"}]}"#, "missing field `route`"),
            (r#"{"routes":[{"route":"/a/*/b"}]}"#, "wildcard"),
            (
                r#"{"routes":[{"route":"/a","rewrite":"https://b.azurewebsites.net/a"}]}"#,
                "out of the site",
            ),
            (r#"{"routes":[{"route":"/a","rewrite":"//evil.org"}]}"#, "out of the site"),
            (r#"{"routes":[{"route":"/a","rewrite":"/../b"}]}"#, "no path"),
            (
                r#"{"routes":[{"route":"/a","rewrite":"/b","redirect":"/c"}]}"#,
                "exclude one another",
            ),
            (r#"{"routes":[{"route":"/a","redirect":"/b","statusCode":200}]}"#, "redirects with"),
            (r#"{"routes":[{"route":"/a*","redirect":"/ab"}]}"#, "redirects to itself"),
            (r#"{"routes":[{"route":"/a","methods":["FETCH"]}]}"#, "FETCH"),
            (r#"{"routes":[{"route":"/a","allowedRoles":["a b"]}]}"#, "role"),
            (r#"{"routes":[{"route":"/a","statusCode":99}]}"#, "99"),
            (r#"{"routes":[{"route":"/a","headers":{"a b":"c"}}]}"#, "no header"),
            (r#"{"routes":[{"route":"/a","headers":{"a":"b\nc"}}]}"#, "value"),
            (r#"{"globalHeaders":{"Content-Length":"0"}}"#, "cannot be set"),
            (r#"{"responseOverrides":{"500":{}}}"#, "500"),
            (r#"{"trailingSlash":"sometimes"}"#, "sometimes"),
            (r#"{"mimeTypes":{"json":"text/json"}}"#, "dot"),
            (r#"{"networking":{"allowedIpRanges":["10.0.0.0/40"]}}"#, "CIDR"),
        ] {
            let said = refused(text);
            assert!(said.contains(word), "{text}: {said}");
            assert!(said.starts_with("Encountered an issue while validating"), "{said}");
        }
        assert!(
            refused(&" ".repeat(20_481)).ends_with("The file size exceeds the limit of 20 KB.")
        );
        let roles: Vec<String> = (0..51).map(|n| format!("\"r{n}\"")).collect();
        let many =
            format!(r#"{{"routes":[{{"route":"/a","allowedRoles":[{}]}}]}}"#, roles.join(","));
        assert!(refused(&many).contains("51"));
    }

    #[test]
    fn what_needs_the_standard_plan_is_refused_on_the_free_one() {
        for text in [
            r#"{"networking":{"allowedIpRanges":["10.0.0.0/8"]}}"#,
            r#"{"forwardingGateway":{"requiredHeaders":{"X-Azure-FDID":"1"}}}"#,
        ] {
            assert!(Config::parse(text.as_bytes(), true).is_ok(), "{text}");
            assert!(Config::parse(text.as_bytes(), false).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_meets_its_methods_alone_and_the_first_wins() {
        let config = Config::parse(
            br#"{"routes":[
                {"route":"/a","methods":["get"],"allowedRoles":["authenticated"]},
                {"route":"/a","allowedRoles":["anonymous","x"]}
            ]}"#,
            false,
        )
        .expect("a configuration");
        assert!(!config.route(&Method::GET, "/a").expect("a rule").anonymous);
        assert!(config.route(&Method::POST, "/a").expect("a rule").anonymous);
        assert!(config.route(&Method::GET, "/b").is_none());
    }
}
