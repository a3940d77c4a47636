//! Signing a person in: the authorization code with PKCE that `az login` and the SDKs open a browser
//! for, the device code, the password, and the refresh token that each of them ends in.
//!
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>,
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code>,
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth-ropc>
//!
//! Codes live in memory and are worth nothing after a restart; refresh tokens are signed and name the
//! password that they came by, so that a change of it ends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::{Method, Request, StatusCode};
use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entra::{HOST, Refusal, pairs, requested_audience};
use super::pages;
use super::token::{self, Subject, random};
use super::users::User;
use super::{Identity, IdentityError};

/// Programs that may ask in a person's name without a secret, by their well-known client IDs
/// (<https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in>).
const PUBLIC_CLIENTS: &[(&str, &str)] = &[
    ("04b07795-8ddb-461a-bbee-02f9e1bf7b46", "Microsoft Azure CLI"),
    ("1950a258-227b-4e31-a9cf-717495945fc2", "Microsoft Azure PowerShell"),
    ("aebc6443-996d-45c2-90f0-388ff96faa56", "Visual Studio Code"),
];
/// How long a code may take to come back, seconds.
const CODE_LIFETIME: i64 = 600;
const DEVICE_LIFETIME: i64 = 900;
/// How often a device may ask, seconds.
const DEVICE_INTERVAL: i64 = 5;
/// How long a refresh token lives: 90 days, as Entra's
/// (<https://learn.microsoft.com/entra/identity-platform/refresh-tokens>).
const REFRESH_LIFETIME: i64 = 90 * 86_400;
/// What refresh tokens are for: no service goes by this name.
const REFRESH: &str = "urn:lazuli:refresh-token";
/// The most sign-ins under way.
const MAX_PENDING: usize = 500;
/// The letters of a device's code: no vowels, so no words, and nothing that looks like something else.
const CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Sign-ins that are under way.
#[derive(Default)]
pub(super) struct SignIns {
    codes: Mutex<HashMap<String, Code>>,
    devices: Mutex<HashMap<String, Device>>,
}

/// What an authorization code stands for.
struct Code {
    user: String,
    client: &'static str,
    redirect_uri: String,
    nonce: Option<String>,
    scope: Option<String>,
    /// PKCE's, base64url of SHA-256.
    challenge: Option<String>,
    until: i64,
}

/// A device that waits, by its own secret code.
struct Device {
    /// What the person types.
    user_code: String,
    client: &'static str,
    /// Who has typed it.
    user: Option<String>,
    scope: Option<String>,
    until: i64,
}

/// What a refresh token says.
#[derive(Clone, Serialize, Deserialize)]
struct Refresh {
    aud: String,
    exp: i64,
    sub: String,
    client: String,
    stamp: String,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// The public client of that ID.
fn client(id: Option<&str>) -> Result<(&'static str, &'static str), Refusal> {
    let id = id.ok_or_else(|| super::entra::missing("client_id"))?;
    let known = PUBLIC_CLIENTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(id));
    known.copied().ok_or_else(|| {
        bad(
            "unauthorized_client",
            700_016,
            format!("Application with identifier '{id}' was not found in the directory."),
        )
    })
}

pub(super) fn bad(error: &'static str, code: u32, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error, code, message)
}

/// Whether an address is this machine's own: codes are sent nowhere else.
fn is_loopback(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.bytes().all(|digit| digit.is_ascii_digit()) { host } else { authority }
    });
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// A request to sign in, as `authorize` takes it and the page's form brings it back.
struct Asked {
    client: &'static str,
    program: &'static str,
    redirect_uri: String,
    response_mode: String,
    state: Option<String>,
    nonce: Option<String>,
    scope: Option<String>,
    challenge: Option<String>,
}

impl Asked {
    fn read(form: &HashMap<String, String>) -> Result<Self, Refusal> {
        let field = |name: &str| form.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let (client, program) = client(field("client_id"))?;
        let invalid = |message: String| bad("invalid_request", 9_002_313, message);
        if field("response_type") != Some("code") {
            return Err(bad(
                "unsupported_response_type",
                700_054,
                "response_type is not enabled for the application: use 'code'.",
            ));
        }
        let redirect_uri = field("redirect_uri").unwrap_or_default();
        if !is_loopback(redirect_uri) {
            return Err(bad(
                "invalid_request",
                50_011,
                format!(
                    "The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs configured for the application '{client}': it must be http://localhost."
                ),
            ));
        }
        let response_mode = field("response_mode").unwrap_or("query");
        if !matches!(response_mode, "query" | "form_post") {
            return Err(invalid(format!(
                "The response_mode '{response_mode}' is not supported: use 'query' or 'form_post'."
            )));
        }
        let challenge = field("code_challenge");
        if challenge.is_some() && field("code_challenge_method") != Some("S256") {
            return Err(invalid("The code_challenge_method must be 'S256'.".to_owned()));
        }
        let owned = |name: &str| field(name).map(str::to_owned);
        Ok(Self {
            client,
            program,
            redirect_uri: redirect_uri.to_owned(),
            response_mode: response_mode.to_owned(),
            state: owned("state"),
            nonce: owned("nonce"),
            scope: owned("scope"),
            challenge: challenge.map(str::to_owned),
        })
    }
}

/// An answer that is a page, or JSON for a program that asked for it.
pub(super) enum Page {
    Html(StatusCode, String),
    Json(StatusCode, Value),
    Redirect(String),
}

/// The pages of signing in; None for everything else of Entra's.
pub(super) fn page(identity: &Identity, request: &Request<Bytes>) -> Option<Page> {
    let path = request.uri().path().trim_matches('/').to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').collect();
    let query = pairs(request.uri().query().unwrap_or_default());
    let form = || pairs(std::str::from_utf8(request.body()).unwrap_or_default());
    let json = request
        .headers()
        .get("accept")
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let outcome = match (request.method(), segments.as_slice()) {
        (&Method::GET, [_, "oauth2", "authorize"] | [_, "oauth2", "v2.0", "authorize"]) => {
            authorize(&query)
        }
        (&Method::POST, [_, "login"]) => login(identity, &form(), json),
        (&Method::GET, ["device"] | [_, "oauth2", "deviceauth"]) => {
            Ok(Page::Html(StatusCode::OK, pages::device("", None)))
        }
        (&Method::POST, ["device"] | [_, "oauth2", "deviceauth"]) => approve(identity, &form()),
        (&Method::GET, [_, "userrealm", name]) => return Some(realm(name)),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|refusal| {
        if json {
            let (status, body) = refusal.into_answer();
            Page::Json(status, body)
        } else {
            Page::Html(refusal.status, pages::failed(&refusal.said()))
        }
    }))
}

fn authorize(query: &HashMap<String, String>) -> Result<Page, Refusal> {
    let asked = Asked::read(query)?;
    let hint = query.get("login_hint").map_or("", String::as_str);
    Ok(Page::Html(StatusCode::OK, pages::login(asked.program, query, hint, None)))
}

/// The form of the sign-in page: the name and password, and what `authorize` was asked.
fn login(identity: &Identity, form: &HashMap<String, String>, json: bool) -> Result<Page, Refusal> {
    let asked = Asked::read(form)?;
    let name = form.get("username").map_or("", String::as_str);
    let user = match password(identity, name, form.get("password").map_or("", String::as_str)) {
        Ok(user) => user,
        Err(refusal) if json => return Err(refusal),
        Err(refusal) => {
            let said = refusal.said();
            return Ok(Page::Html(
                StatusCode::UNAUTHORIZED,
                pages::login(asked.program, form, name, Some(&said)),
            ));
        }
    };
    let code = secret()?;
    let mut codes = lock(&identity.sign_ins.codes);
    codes.retain(|_, code| code.until > now());
    if codes.len() >= MAX_PENDING {
        return Err(bad("temporarily_unavailable", 90_033, "Too many sign-ins are under way."));
    }
    codes.insert(
        code.clone(),
        Code {
            user: user.id,
            client: asked.client,
            redirect_uri: asked.redirect_uri.clone(),
            nonce: asked.nonce,
            scope: asked.scope,
            challenge: asked.challenge,
            until: now() + CODE_LIFETIME,
        },
    );
    drop(codes);
    let mut fields = vec![("code", code)];
    fields.extend(asked.state.map(|state| ("state", state)));
    Ok(match (json, asked.response_mode.as_str()) {
        (true, mode) => {
            let fields: serde_json::Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            Page::Json(
                StatusCode::OK,
                json!({ "redirect_uri": asked.redirect_uri, "response_mode": mode, "fields": fields }),
            )
        }
        (false, "form_post") => {
            Page::Html(StatusCode::OK, pages::form_post(&asked.redirect_uri, &fields))
        }
        (false, _) => {
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            let join = if asked.redirect_uri.contains('?') { '&' } else { '?' };
            Page::Redirect(format!("{}{join}{query}", asked.redirect_uri))
        }
    })
}

/// The page where a person types what a device shows.
fn approve(identity: &Identity, form: &HashMap<String, String>) -> Result<Page, Refusal> {
    let field = |name: &str| form.get(name).map_or("", String::as_str).trim();
    let code = field("user_code").replace(['-', ' '], "").to_ascii_uppercase();
    let wrong = |said: &str| Page::Html(StatusCode::UNAUTHORIZED, pages::device(&code, Some(said)));
    let user = match password(identity, field("username"), field("password")) {
        Ok(user) => user,
        Err(refusal) => return Ok(wrong(&refusal.said())),
    };
    let mut devices = lock(&identity.sign_ins.devices);
    let found = devices
        .values_mut()
        .find(|one| one.user_code == code && one.until > now() && one.user.is_none());
    let Some(device) = found else {
        return Ok(wrong("That code didn't work. Check the code and try again."));
    };
    device.user = Some(user.id);
    Ok(Page::Html(StatusCode::OK, pages::done()))
}

/// Where a name's password is checked: here, whatever the name
/// (MSAL asks before it sends a password).
fn realm(name: &str) -> Page {
    let domain = name.rsplit('@').next().unwrap_or_default();
    Page::Json(
        StatusCode::OK,
        json!({
            "ver": "1.0", "account_type": "Managed", "domain_name": domain,
            "cloud_instance_name": "microsoftonline.com",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        }),
    )
}

fn password(identity: &Identity, name: &str, text: &str) -> Result<User, Refusal> {
    let user = identity.by_password(name, text).ok_or_else(|| {
        bad(
            "invalid_grant",
            50_126,
            "Error validating credentials due to invalid username or password.",
        )
    })?;
    if !user.enabled {
        return Err(bad("invalid_grant", 50_057, "The user account is disabled."));
    }
    Ok(user)
}

fn secret() -> Result<String, Refusal> {
    random(32).map_err(|_| bad("server_error", 90_033, "A transient error has occurred."))
}

/// `devicecode`: what a program without a browser shows the person.
pub(super) fn device_code(identity: &Identity, body: &[u8]) -> Result<Value, Refusal> {
    let form = pairs(std::str::from_utf8(body).unwrap_or_default());
    let field = |name: &str| form.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let (client, _) = client(field("client_id"))?;
    requested_audience(&field, form.contains_key("scope"), true)?;
    let device_code = secret()?;
    let mut letters = [0; 9];
    aws_lc_rs::rand::fill(&mut letters)
        .map_err(|_| bad("server_error", 90_033, "A transient error has occurred."))?;
    let user_code: String =
        letters.iter().map(|byte| char::from(CODE_LETTERS[usize::from(*byte) % 20])).collect();
    let mut devices = lock(&identity.sign_ins.devices);
    devices.retain(|_, device| device.until > now());
    if devices.len() >= MAX_PENDING {
        return Err(bad("temporarily_unavailable", 90_033, "Too many sign-ins are under way."));
    }
    devices.insert(
        device_code.clone(),
        Device {
            user_code: user_code.clone(),
            client,
            user: None,
            scope: field("scope").or_else(|| field("resource")).map(str::to_owned),
            until: now() + DEVICE_LIFETIME,
        },
    );
    let page = identity.sign_in_page();
    Ok(json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "verification_url": page,
        "expires_in": DEVICE_LIFETIME,
        "interval": DEVICE_INTERVAL,
        "message": format!("To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."),
    }))
}

/// Whether a grant is one of a person's.
pub(super) fn is_ours(grant_type: &str) -> bool {
    matches!(
        grant_type,
        "authorization_code"
            | "refresh_token"
            | "password"
            | "device_code"
            | "urn:ietf:params:oauth:grant-type:device_code"
    )
}

/// Why there is no token.
pub(super) enum Failure {
    Refused(Refusal),
    Broken(IdentityError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::Broken(error)
    }
}

/// The tokens of a grant for which [`is_ours`] holds.
pub(super) fn grant<'a>(
    identity: &Arc<Identity>,
    grant_type: &str,
    field: &impl Fn(&str) -> Option<&'a str>,
    v2: bool,
) -> Result<Value, Failure> {
    let (client, _) = client(field("client_id"))?;
    let mut nonce = None;
    // What was asked for when the sign-in began holds where the request for the token names nothing.
    let mut scope = None;
    let user = match grant_type {
        "authorization_code" => {
            let code = by_code(identity, client, field)?;
            (nonce, scope) = (code.nonce, code.scope);
            known(identity, &code.user)?
        }
        "refresh_token" => by_refresh_token(identity, client, field)?,
        "password" => {
            let name = field("username").ok_or_else(|| super::entra::missing("username"))?;
            let text = field("password").ok_or_else(|| super::entra::missing("password"))?;
            password(identity, name, text)?
        }
        _ => {
            let device = by_device(identity, client, field)?;
            scope = device.scope;
            known(identity, device.user.as_deref().unwrap_or_default())?
        }
    };
    let parameter = if v2 { "scope" } else { "resource" };
    let scope = field(parameter).map(str::to_owned).or(scope);
    let named = |name: &str| if name == parameter { scope.as_deref() } else { None };
    let audience = requested_audience(&named, v2, true)?;
    tokens(identity, &user, client, &audience, scope.as_deref().unwrap_or(&audience), nonce)
}

fn by_code<'a>(
    identity: &Identity,
    client: &str,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Code, Refusal> {
    let given = field("code").ok_or_else(|| super::entra::missing("code"))?;
    // Whatever comes of it, a code is good once.
    let code = lock(&identity.sign_ins.codes).remove(given).filter(|code| code.until > now());
    let code = code.ok_or_else(|| {
        bad("invalid_grant", 70_008, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.")
    })?;
    if code.client != client || field("redirect_uri") != Some(&code.redirect_uri) {
        return Err(bad(
            "invalid_grant",
            500_112,
            "The reply address does not match the reply address provided when requesting Authorization code.",
        ));
    }
    if let Some(challenge) = &code.challenge {
        let verifier = field("code_verifier").unwrap_or_default();
        let made = digest::digest(&digest::SHA256, verifier.as_bytes());
        let made = URL_SAFE_NO_PAD.encode(made.as_ref());
        if constant_time::verify_slices_are_equal(made.as_bytes(), challenge.as_bytes()).is_err() {
            return Err(bad(
                "invalid_grant",
                501_481,
                "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
            ));
        }
    }
    Ok(code)
}

fn by_device<'a>(
    identity: &Identity,
    client: &str,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Device, Refusal> {
    let given = field("device_code").or_else(|| field("code"));
    let given = given.ok_or_else(|| super::entra::missing("device_code"))?;
    let mut devices = lock(&identity.sign_ins.devices);
    let expired = || {
        bad(
            "expired_token",
            70_020,
            "The provided value for the input parameter 'device_code' is not valid. This device code has expired.",
        )
    };
    let device = devices.get(given).filter(|one| one.client == client && one.until > now());
    if device.ok_or_else(expired)?.user.is_none() {
        return Err(bad(
            "authorization_pending",
            70_016,
            "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
        ));
    }
    // Whatever comes of it, a code is good once.
    devices.remove(given).ok_or_else(expired)
}

fn by_refresh_token<'a>(
    identity: &Identity,
    client: &str,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<User, Refusal> {
    let given = field("refresh_token").ok_or_else(|| super::entra::missing("refresh_token"))?;
    let said: Refresh = identity.tokens.signed(given, REFRESH).ok_or_else(|| {
        bad(
            "invalid_grant",
            700_082,
            "The refresh token has expired due to inactivity, or is malformed.",
        )
    })?;
    if said.client != client {
        return Err(bad(
            "invalid_grant",
            700_005,
            "The provided refresh token is intended for another client.",
        ));
    }
    let user = known(identity, &said.sub)?;
    if user.stamp() != said.stamp {
        return Err(bad(
            "invalid_grant",
            50_173,
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
        ));
    }
    Ok(user)
}

fn known(identity: &Identity, id: &str) -> Result<User, Refusal> {
    let user = identity.user(id).ok_or_else(|| {
        bad("invalid_grant", 50_034, "The user account does not exist in the directory.")
    })?;
    if !user.enabled {
        return Err(bad("invalid_grant", 50_057, "The user account is disabled."));
    }
    Ok(user)
}

fn tokens(
    identity: &Identity,
    user: &User,
    client: &str,
    audience: &str,
    asked: &str,
    nonce: Option<String>,
) -> Result<Value, Failure> {
    let tenant = identity.tenant_id();
    let subject = Subject {
        tenant,
        object_id: &user.id,
        client_id: client,
        resource: None,
        user: Some(user),
    };
    let access = identity.tokens.issue(&subject, audience, token::APPLICATION_LIFETIME)?;
    let now = now();
    let id_token = identity.tokens.sign(&json!({
        "aud": client, "iss": format!("https://{HOST}/{tenant}/v2.0"), "iat": now, "nbf": now,
        "exp": now + token::APPLICATION_LIFETIME, "oid": user.id, "sub": user.id, "tid": tenant,
        "preferred_username": user.upn, "name": user.display_name, "nonce": nonce,
        "uti": random(16)?, "ver": "2.0",
    }))?;
    let refresh = identity.tokens.sign(&Refresh {
        aud: REFRESH.to_owned(),
        exp: now + REFRESH_LIFETIME,
        sub: user.id.clone(),
        client: client.to_owned(),
        stamp: user.stamp().to_owned(),
    })?;
    let reserved = ["openid", "profile", "offline_access", "email"];
    let granted: Vec<&str> =
        asked.split(' ').filter(|one| !one.is_empty() && !reserved.contains(one)).collect();
    let account = json!({ "uid": user.id, "utid": tenant }).to_string();
    Ok(json!({
        "token_type": "Bearer",
        "scope": format!("{} {audience}/user_impersonation", granted.join(" ")),
        "expires_in": access.expires_in - 1,
        "ext_expires_in": access.expires_in - 1,
        "access_token": access.text,
        "refresh_token": refresh,
        "refresh_token_expires_in": REFRESH_LIFETIME,
        // The programs of this family take one another's refresh tokens on Azure; here each has its own.
        "id_token": id_token,
        "client_info": URL_SAFE_NO_PAD.encode(account),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;
    use crate::identity::entra;

    const AZ: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn authorize(more: &[(&str, &str)]) -> HashMap<String, String> {
        let challenge = digest::digest(&digest::SHA256, VERIFIER.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge.as_ref());
        let mut form: HashMap<String, String> = [
            ("client_id", AZ),
            ("response_type", "code"),
            ("redirect_uri", "http://localhost:8400"),
            ("response_mode", "form_post"),
            ("state", "s"),
            ("nonce", "n"),
            ("scope", "https://management.core.windows.net//.default offline_access openid"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]
        .into_iter()
        .chain(more.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        form.retain(|_, value| !value.is_empty());
        form
    }

    fn signed_in(identity: &Identity) -> String {
        let developer = identity.developer();
        let form = authorize(&[("username", &developer.upn), ("password", &developer.password)]);
        match login(identity, &form, true) {
            Ok(Page::Json(_, body)) => {
                assert_eq!(body["fields"]["state"], "s");
                body["fields"]["code"].as_str().expect("a code").to_owned()
            }
            _ => panic!("no code"),
        }
    }

    fn token(identity: &Arc<Identity>, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let path = "/organizations/oauth2/v2.0/token";
        entra::answer(identity, &Method::POST, path, "", body.as_bytes())
    }

    fn code(answer: &(StatusCode, Value)) -> u64 {
        answer.1["error_codes"][0].as_u64().unwrap_or_default()
    }

    fn by_code<'a>(code: &'a str, verifier: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("client_id", AZ),
            ("code", code),
            ("redirect_uri", "http://localhost:8400"),
            ("code_verifier", verifier),
        ]
    }

    #[tokio::test]
    async fn a_code_becomes_tokens_once_and_for_whoever_asked_for_it() {
        let identity = identity().await;
        let first = signed_in(&identity);
        let (status, got) = token(&identity, &by_code(&first, VERIFIER));
        assert_eq!(status, StatusCode::OK, "{got}");
        let access = got["access_token"].as_str().expect("a token");
        let who = identity.verify(access, token::Audience::ResourceManager).expect("valid");
        assert!(who.user && who.app_id == identity.developer().upn);
        assert_eq!(code(&token(&identity, &by_code(&first, VERIFIER))), 70_008, "good once");
        let second = signed_in(&identity);
        assert_eq!(code(&token(&identity, &by_code(&second, "another"))), 501_481);
        assert_eq!(code(&token(&identity, &by_code(&second, VERIFIER))), 70_008, "tried, and gone");
    }

    #[tokio::test]
    async fn a_refresh_token_ends_with_the_password_it_came_by() {
        let identity = identity().await;
        let (_, got) = token(&identity, &by_code(&signed_in(&identity), VERIFIER));
        let refresh = got["refresh_token"].as_str().expect("one").to_owned();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", AZ),
            ("refresh_token", refresh.as_str()),
            ("scope", "https://vault.azure.net/.default"),
        ];
        let (status, got) = token(&identity, &form);
        assert_eq!(status, StatusCode::OK, "{got}");
        let access = got["access_token"].as_str().expect("a token");
        assert!(identity.verify(access, token::Audience::KeyVault).is_ok());
        assert!(identity.verify(&refresh, token::Audience::KeyVault).is_err(), "it opens nothing");
        let forged = [form[0], form[1], ("refresh_token", access), form[3]];
        assert_eq!(code(&token(&identity, &forged)), 700_082);
        let user = identity.user(&identity.developer().upn).expect("there");
        let user = Identity::with_password(user, "another one").await.expect("changed");
        identity.keep_user(&user).await.expect("kept");
        assert_eq!(code(&token(&identity, &form)), 50_173);
    }

    #[tokio::test]
    async fn a_device_waits_until_its_code_is_typed() {
        let identity = identity().await;
        let asked = format!("client_id={AZ}&scope=https://vault.azure.net/.default");
        let Ok(shown) = device_code(&identity, asked.as_bytes()) else { panic!("no code") };
        let device = shown["device_code"].as_str().expect("a code");
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", AZ),
            ("device_code", device),
        ];
        assert_eq!(code(&token(&identity, &form)), 70_016);
        let developer = identity.developer();
        let typed = HashMap::from([
            ("user_code".to_owned(), shown["user_code"].as_str().expect("one").to_lowercase()),
            ("username".to_owned(), developer.upn.clone()),
            ("password".to_owned(), developer.password.to_string()),
        ]);
        assert!(matches!(approve(&identity, &typed), Ok(Page::Html(StatusCode::OK, _))));
        let (status, got) = token(&identity, &form);
        assert_eq!(status, StatusCode::OK, "{got}");
        assert_eq!(code(&token(&identity, &form)), 70_020, "good once");
    }

    #[tokio::test]
    async fn nothing_leads_to_another_machine_or_another_program() {
        let identity = identity().await;
        for (more, expected) in [
            (("redirect_uri", "https://evil.example"), 50_011),
            (("redirect_uri", "http://localhost.evil.example:80/"), 50_011),
            (("redirect_uri", "http://localhost@evil.example/"), 50_011),
            (("redirect_uri", "http://evil.example/localhost"), 50_011),
            (("client_id", "00000000-0000-0000-0000-000000000000"), 700_016),
            (("response_type", "token"), 700_054),
            (("code_challenge_method", "plain"), 9_002_313),
            (("response_mode", "fragment"), 9_002_313),
        ] {
            let refusal = Asked::read(&authorize(&[more])).err().expect("refused");
            assert_eq!(refusal.into_answer().1["error_codes"][0], expected, "{more:?}");
        }
        let developer = identity.developer().upn.clone();
        let form = authorize(&[("username", &developer), ("password", "wrong")]);
        assert!(matches!(
            login(&identity, &form, false),
            Ok(Page::Html(StatusCode::UNAUTHORIZED, _))
        ));
        let refusal = login(&identity, &form, true).err().expect("refused");
        assert_eq!(refusal.into_answer().1["error_codes"][0], 50_126);
    }
}
