//! Users in Microsoft Graph (<https://learn.microsoft.com/graph/api/resources/user>), and `me`.

use std::sync::Arc;

use ::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Identity, MAX_NAME, Refused, listed, unsupported};
use crate::identity::users::{DOMAIN, User, UserError};

/// The shortest password that Entra takes
/// (<https://learn.microsoft.com/entra/identity/authentication/concept-sspr-policy>).
const MIN_PASSWORD: usize = 8;
const MAX_PASSWORD: usize = 256;

pub(super) fn show(user: &User) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.user",
        "id": user.id,
        "accountEnabled": user.enabled,
        "businessPhones": [],
        "displayName": user.display_name,
        "givenName": null,
        "jobTitle": null,
        "mail": null,
        "mailNickname": user.upn.split('@').next(),
        "mobilePhone": null,
        "officeLocation": null,
        "preferredLanguage": null,
        "surname": null,
        "userPrincipalName": user.upn,
        "userType": "Member",
    })
}

/// `me`: whoever asks, if that is a person.
pub(super) fn me(identity: &Identity, who: &str) -> Answer {
    let user = identity.user(who).ok_or_else(|| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "/me request is only valid with delegated authentication flow.",
        )
    })?;
    Ok((StatusCode::OK, show(&user)))
}

/// A request below `users`.
pub(super) async fn answer(
    identity: &Arc<Identity>,
    method: &Method,
    path: &[&str],
    filter: Option<&str>,
    body: impl FnOnce() -> Result<Value, Refused>,
) -> Answer {
    match (method, path) {
        (&Method::GET, []) => listed(identity.users().iter().map(show), filter),
        (&Method::POST, []) => create(identity, &body()?).await,
        (method, [name, rest @ ..]) => {
            let user = identity.user(name).ok_or_else(|| Refused::absent(name))?;
            match (method, rest) {
                (&Method::GET, []) => Ok((StatusCode::OK, show(&user))),
                (&Method::PATCH, []) => change(identity, user, &body()?).await,
                (&Method::DELETE, []) => {
                    if user.upn == identity.developer().upn {
                        return Err(Refused::bad_request(
                            "This is the region's developer, whom `lazuli run --as developer` signs in.",
                        ));
                    }
                    identity.forget_user(&user).await?;
                    Ok((StatusCode::NO_CONTENT, Value::Null))
                }
                (&Method::GET, ["memberOf" | "transitiveMemberOf"]) => {
                    listed(std::iter::empty(), None)
                }
                _ => Err(unsupported(method)),
            }
        }
        _ => Err(unsupported(method)),
    }
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    body[name].as_str().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| {
        Refused::bad_request(format!(
            "A value is required for property '{name}' of resource 'User'."
        ))
    })
}

fn password(profile: &Value) -> Result<&str, Refused> {
    let password = profile["password"].as_str().unwrap_or_default();
    let kinds: [fn(char) -> bool; 4] = [
        |c| c.is_ascii_lowercase(),
        |c| c.is_ascii_uppercase(),
        |c| c.is_ascii_digit(),
        |c| !c.is_ascii_alphanumeric(),
    ];
    let strong = kinds.iter().filter(|is| password.contains(**is)).count() >= 3;
    if !strong || !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.chars().count()) {
        return Err(Refused::bad_request(
            "The specified password does not comply with password complexity requirements. Please provide a different password.",
        ));
    }
    Ok(password)
}

async fn create(identity: &Arc<Identity>, body: &Value) -> Answer {
    let (name, upn) = (text(body, "displayName")?, text(body, "userPrincipalName")?);
    let password = password(&body["passwordProfile"])?;
    let local = upn.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('@'));
    let Some(local) = local else {
        return Err(Refused::bad_request(format!(
            "The domain portion of the userPrincipalName property is invalid. You must use one of the verified domain names in your organization: {DOMAIN}."
        )));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "'.-_!#^~".contains(c);
    if local.is_empty()
        || local.len() > 64
        || !local.chars().all(plain)
        || name.chars().count() > MAX_NAME
    {
        return Err(Refused::bad_request("Property userPrincipalName is invalid."));
    }
    let enabled = body["accountEnabled"].as_bool().unwrap_or(true);
    match identity.create_user(upn, name, enabled, password).await {
        Ok(user) => Ok((StatusCode::CREATED, show(&user))),
        Err(UserError::Identity(error)) => Err(error.into()),
        Err(error @ UserError::Taken) => Err(Refused::bad_request(error.to_string())),
        Err(error @ UserError::TooMany) => {
            Err(Refused::new(StatusCode::FORBIDDEN, "Directory_QuotaExceeded", error.to_string()))
        }
    }
}

async fn change(identity: &Arc<Identity>, mut user: User, body: &Value) -> Answer {
    for name in body.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !["accountEnabled", "displayName", "passwordProfile"].contains(&name.as_str()) {
            return Err(Refused::bad_request(format!(
                "Property '{name}' of a user cannot be changed in this region."
            )));
        }
    }
    if body.get("displayName").is_some() {
        text(body, "displayName")?.clone_into(&mut user.display_name);
    }
    if let Some(enabled) = body["accountEnabled"].as_bool() {
        user.enabled = enabled;
    }
    if !body["passwordProfile"].is_null() {
        user = Identity::with_password(user, password(&body["passwordProfile"])?).await?;
    }
    identity.keep_user(&user).await?;
    Ok((StatusCode::NO_CONTENT, Value::Null))
}
