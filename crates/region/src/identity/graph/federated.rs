//! Federated identity credentials of applications
//! (<https://learn.microsoft.com/graph/api/resources/federatedidentitycredential>): how a pipeline signs in
//! with its own platform's token instead of a secret.

use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Identity, Refused, unsupported};
use crate::identity::applications::{Application, Federated};
use crate::identity::federation::Trust;

/// An application has at most so many.
const MOST: usize = 20;
/// Graph's limit on issuer, subject and audience.
const MAX_TEXT: usize = 600;

fn show(one: &Federated) -> Value {
    json!({
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "issuer": one.trust.issuer,
        "subject": one.trust.subject,
        "audiences": one.trust.audiences,
    })
}

/// A request below `applications/{id}/federatedIdentityCredentials`.
pub(super) async fn answer(
    identity: &Identity,
    mut application: Application,
    method: &Method,
    path: &[&str],
    body: impl FnOnce() -> Result<Value, Refused>,
) -> Answer {
    let at = path.first().map(|name| {
        let same = |one: &Federated| {
            one.id.eq_ignore_ascii_case(name) || one.name.eq_ignore_ascii_case(name)
        };
        application.federated.iter().position(same).ok_or_else(|| Refused::absent(name))
    });
    match (method, at, path.len()) {
        (&Method::GET, None, _) => Ok((
            StatusCode::OK,
            json!({ "value": application.federated.iter().map(show).collect::<Vec<_>>() }),
        )),
        (&Method::POST, None, _) => {
            let body = body()?;
            let made = read(&body, None)?;
            if application.federated.len() >= MOST {
                return Err(Refused::bad_request(format!(
                    "An application can have at most {MOST} federated identity credentials."
                )));
            }
            differs(&application, &made)?;
            application.federated.push(made.clone());
            identity.keep(&application).await?;
            Ok((StatusCode::CREATED, show(&made)))
        }
        (&Method::GET, Some(at), 1) => Ok((StatusCode::OK, show(&application.federated[at?]))),
        (&Method::PATCH, Some(at), 1) => {
            let at = at?;
            let changed = read(&body()?, Some(&application.federated[at]))?;
            differs(&application, &changed)?;
            application.federated[at] = changed;
            identity.keep(&application).await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        (&Method::DELETE, Some(at), 1) => {
            application.federated.remove(at?);
            identity.keep(&application).await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        (method, ..) => Err(unsupported(method)),
    }
}

/// No two of an application's have one name, or one issuer and subject.
fn differs(application: &Application, made: &Federated) -> Result<(), Refused> {
    let twin = application.federated.iter().filter(|one| one.id != made.id).any(|one| {
        one.name.eq_ignore_ascii_case(&made.name)
            || one.trust.issuer == made.trust.issuer && one.trust.subject == made.trust.subject
    });
    if twin {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "Request_MultipleObjectsWithSameKeyValue",
            "FederatedIdentityCredential with the same name, or the same issuer and subject, already exists.",
        ));
    }
    Ok(())
}

fn read(body: &Value, before: Option<&Federated>) -> Result<Federated, Refused> {
    let text = |name: &str, before: Option<&str>| -> Result<String, Refused> {
        let given = match &body[name] {
            Value::Null => before,
            value => value.as_str(),
        };
        given
            .filter(|text| !text.is_empty() && text.chars().count() <= MAX_TEXT)
            .map(str::to_owned)
            .ok_or_else(|| Refused::bad_request(format!("The property '{name}' is invalid.")))
    };
    let name = text("name", before.map(|one| one.name.as_str()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(3..=120).contains(&name.len()) || !name.chars().all(plain) {
        return Err(Refused::bad_request(
            "The name of a federated identity credential has 3 to 120 letters, digits, '-' or '_'.",
        ));
    }
    let issuer = text("issuer", before.map(|one| one.trust.issuer.as_str()))?;
    if !issuer.starts_with("https://") {
        return Err(Refused::bad_request("The issuer must be a URL that begins with https://."));
    }
    let audiences = match &body["audiences"] {
        Value::Null => before.map(|one| one.trust.audiences.clone()).unwrap_or_default(),
        given => serde_json::from_value(given.clone()).unwrap_or_default(),
    };
    if audiences.len() != 1 || audiences[0].is_empty() || audiences[0].len() > MAX_TEXT {
        return Err(Refused::bad_request(
            "A federated identity credential has exactly one audience, usually 'api://AzureADTokenExchange'.",
        ));
    }
    Ok(Federated {
        id: before.map_or_else(|| Uuid::new_v4().to_string(), |one| one.id.clone()),
        name,
        description: match &body["description"] {
            Value::Null => before.and_then(|one| one.description.clone()),
            given => given.as_str().map(str::to_owned),
        },
        trust: Trust {
            issuer,
            subject: text("subject", before.map(|one| one.trust.subject.as_str()))?,
            audiences,
        },
    })
}
