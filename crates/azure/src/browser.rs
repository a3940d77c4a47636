//! What a browser does for a program that signs a person in: opens the page, sends its form, and takes
//! the answer back to the program (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>).
//! For a local region's page, where the person's password is at hand; Azure's own needs a real browser.

use serde::Deserialize;

use crate::{Connection, Error, Secret};

const FORM: &str = "application/x-www-form-urlencoded";

fn encoded(form: Vec<(impl AsRef<str>, impl AsRef<str>)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// What a region's sign-in page answers a program.
#[derive(Deserialize)]
struct Signed {
    redirect_uri: String,
    response_mode: String,
    fields: serde_json::Map<String, serde_json::Value>,
}

/// What it answers where it refuses.
#[derive(Deserialize)]
struct Refused {
    error_description: String,
}

/// Signs `name` in at the address that a program opened a browser for, and gives the program its answer.
///
/// # Errors
///
/// [`Error::Configuration`] where `address` is no sign-in page or leads back to another machine, the
/// page's own words where it refuses, and whatever the network says.
pub async fn sign_in(
    connection: &Connection,
    address: &str,
    name: &str,
    password: &Secret,
) -> Result<(), Error> {
    let unusable = |what: &str| Error::Configuration(what.to_owned());
    let url: reqwest::Url = address.parse().map_err(|_| unusable("that is no address"))?;
    if url.scheme() != "https"
        || url.host_str() != Some("login.microsoftonline.com")
        || !url.path().ends_with("/authorize")
    {
        return Err(unusable("that is no page to sign in at: open it in a browser of your own"));
    }
    let mut form: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    form.retain(|(key, _)| key != "username" && key != "password");
    form.push(("username".to_owned(), name.to_owned()));
    form.push(("password".to_owned(), password.expose().to_owned()));
    let network = |error: reqwest::Error| Error::Configuration(error.without_url().to_string());
    let answer = connection
        .http()?
        .post("https://login.microsoftonline.com/common/login")
        .header("Accept", "application/json")
        .header("Content-Type", FORM)
        .body(encoded(form))
        .send()
        .await
        .map_err(network)?;
    let refused = !answer.status().is_success();
    let body = answer.bytes().await.map_err(network)?;
    if refused {
        let said = serde_json::from_slice::<Refused>(&body).map(|one| one.error_description);
        return Err(Error::Configuration(
            said.unwrap_or_else(|_| "the sign-in page refused".to_owned()),
        ));
    }
    let signed: Signed = serde_json::from_slice(&body)
        .map_err(|_| unusable("the sign-in page answered with something else"))?;
    let mut back: reqwest::Url =
        signed.redirect_uri.parse().map_err(|_| unusable("the way back is no address"))?;
    let local = matches!(back.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if back.scheme() != "http" || !local {
        return Err(unusable("the way back leads to another machine"));
    }
    let fields: Vec<(&str, &str)> = signed
        .fields
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let program = connection.direct()?;
    let sent = if signed.response_mode == "form_post" {
        program.post(back).header("Content-Type", FORM).body(encoded(fields))
    } else {
        back.query_pairs_mut().extend_pairs(fields);
        program.get(back)
    };
    sent.send().await.map_err(network)?;
    Ok(())
}
