//! Who may reach a slot: access restrictions
//! (<https://learn.microsoft.com/azure/app-service/overview-access-restrictions>) and App Service
//! authentication, of which a region has a linked static site's provider
//! (<https://learn.microsoft.com/azure/static-web-apps/apis-app-service>).

use std::sync::Arc;

use lazuli_gateway::{Access, Auth, Cors, Rule, Source, Unauthenticated};
use serde_json::{Map, Value, json};

use super::site::SlotRecord;

/// The document that App Service authentication is described by.
pub const AUTH: &str = "authsettingsv2";
/// A linked static site's identity provider in it.
const PROVIDER: &str = "azureStaticWebApps";
/// The header fields that a rule may ask for.
const FIELDS: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-host", "x-azure-fdid", "x-fd-healthprobe"];

/// The two lists of restrictions, and what becomes of whom none fits.
pub const RESTRICTIONS: [(&str, &str); 2] = [
    ("ipSecurityRestrictions", "ipSecurityRestrictionsDefaultAction"),
    ("scmIpSecurityRestrictions", "scmIpSecurityRestrictionsDefaultAction"),
];
/// The priority of the rule that a list ends in. It is shown and not kept: what it says follows from the
/// others, and clients send it back with what they add.
const LAST: i64 = 2_147_483_647;

/// A list as it is shown, with the rule that it ends in.
pub fn shown(record: &SlotRecord, rules: &str, otherwise: &str) -> Value {
    let mut all = record.config.get(rules).and_then(Value::as_array).cloned().unwrap_or_default();
    let denies = from(record, rules, otherwise).otherwise_denied;
    let action = if denies { "Deny" } else { "Allow" };
    all.push(json!({
        "ipAddress": "Any", "action": action, "priority": LAST, "name": format!("{action} all"),
        "description": format!("{action} all access"),
    }));
    Value::Array(all)
}

/// A list as it is kept.
pub fn kept(rules: &Value) -> Value {
    let all = rules.as_array().into_iter().flatten();
    Value::Array(all.filter(|rule| rule["priority"].as_i64() != Some(LAST)).cloned().collect())
}

/// Whether `publicNetworkAccess` is off; it stands at the top and in the configuration.
fn private(record: &SlotRecord) -> bool {
    [record.properties.get("publicNetworkAccess"), record.config.get("publicNetworkAccess")]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|access| access.eq_ignore_ascii_case("disabled"))
}

/// Where requests to a slot may come from.
pub fn site(record: &SlotRecord) -> Access {
    let (rules, otherwise) = RESTRICTIONS[0];
    from(record, rules, otherwise)
}

/// Where requests to its SCM may come from.
pub fn scm(record: &SlotRecord) -> Access {
    if record.config_flag("scmIpSecurityRestrictionsUseMain") {
        return site(record);
    }
    let (rules, otherwise) = RESTRICTIONS[1];
    from(record, rules, otherwise)
}

fn from(record: &SlotRecord, rules: &str, otherwise: &str) -> Access {
    let mut listed: Vec<&Value> =
        record.config.get(rules).and_then(Value::as_array).into_iter().flatten().collect();
    // Rules of one priority stay in their order.
    listed.sort_by_key(|rule| rule["priority"].as_i64().unwrap_or(65_000));
    let rules: Vec<Rule> = listed.into_iter().flat_map(read).collect();
    let otherwise_denied = match record.config_str(otherwise) {
        Some(action) => action.eq_ignore_ascii_case("deny"),
        None => !rules.is_empty(),
    };
    Access { private: private(record), rules, otherwise_denied }
}

/// The rules that one of several sources comes to.
fn read(rule: &Value) -> Vec<Rule> {
    let allows = !rule["action"].as_str().unwrap_or("Allow").eq_ignore_ascii_case("deny");
    let mut headers = Vec::new();
    for (name, values) in rule["headers"].as_object().into_iter().flatten() {
        let name = name.to_ascii_lowercase();
        let values: Vec<String> = values
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        if FIELDS.contains(&name.as_str()) && !values.is_empty() {
            headers.push((name, values));
        }
    }
    let tagged = rule["tag"].as_str().is_some_and(|tag| tag.eq_ignore_ascii_case("ServiceTag"));
    let sources = match rule["ipAddress"].as_str() {
        Some(addresses) if !tagged => addresses.split(',').map(|one| source(one.trim())).collect(),
        _ => vec![Source::Nobody],
    };
    sources.into_iter().map(|from| Rule { from, headers: headers.clone(), allows }).collect()
}

fn source(text: &str) -> Source {
    if text.eq_ignore_ascii_case("any") {
        return Source::Anybody;
    }
    text.parse().map_or(Source::Nobody, Source::Network)
}

/// Says what is wrong with a list of restrictions.
pub fn check(rules: &Value) -> Result<(), String> {
    for rule in rules.as_array().into_iter().flatten() {
        let tagged = rule["tag"].as_str().is_some_and(|tag| tag.eq_ignore_ascii_case("ServiceTag"));
        if let Some(action) = rule["action"].as_str()
            && !["allow", "deny"].contains(&action.to_ascii_lowercase().as_str())
        {
            return Err(format!("'{action}' is not a valid action of an access restriction."));
        }
        let Some(addresses) = rule["ipAddress"].as_str().filter(|_| !tagged) else { continue };
        for one in addresses.split(',').map(str::trim) {
            let known = ["any", "anyvnets"].contains(&one.to_ascii_lowercase().as_str());
            if !known && one.parse::<lazuli_gateway::Network>().is_err() {
                return Err(format!("IpAddress '{one}' is not a valid IP address or CIDR range."));
            }
        }
    }
    Ok(())
}

/// `cors`, read; says what is wrong with it.
pub fn cors(settings: &Value) -> Result<Option<Arc<Cors>>, String> {
    let origins = match &settings["allowedOrigins"] {
        Value::Null => Vec::new(),
        Value::Array(all) => all
            .iter()
            .map(|one| {
                let origin = one.as_str().map(|one| one.trim_end_matches('/').to_ascii_lowercase());
                origin.ok_or_else(|| format!("{one} is not an origin."))
            })
            .collect::<Result<_, _>>()?,
        other => return Err(format!("'allowedOrigins' is a list, not {other}.")),
    };
    let credentials = settings["supportCredentials"] == true;
    if credentials && origins.iter().any(|origin| origin == "*") {
        return Err("The CORS allowed origin '*' cannot be used with supportCredentials.".into());
    }
    Ok((!origins.is_empty()).then(|| Arc::new(Cors { origins, credentials })))
}

/// App Service authentication, when it is on.
pub fn auth(record: &SlotRecord) -> Option<Arc<Auth>> {
    let settings =
        record.documents.get(AUTH).filter(|settings| settings["platform"]["enabled"] == true)?;
    let provider = &settings["identityProviders"][PROVIDER];
    let linked = provider["registration"]["clientId"]
        .as_str()
        .filter(|_| provider["enabled"] != false)
        .map(str::to_owned);
    let validation = &settings["globalValidation"];
    let otherwise = match validation["unauthenticatedClientAction"].as_str() {
        _ if validation["requireAuthentication"] != true => Unauthenticated::Allow,
        Some("AllowAnonymous") => Unauthenticated::Allow,
        Some("Return403") => Unauthenticated::Refuse403,
        Some("Return404") => Unauthenticated::Refuse404,
        _ => Unauthenticated::Refuse401,
    };
    let excluded = validation["excludedPaths"].as_array().into_iter().flatten();
    let excluded = excluded.filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Arc::new(Auth { linked, otherwise, excluded }))
}

/// Says what of a document cannot be acted upon.
pub fn check_auth(settings: &Value) -> Result<(), String> {
    if settings["platform"]["enabled"] != true {
        return Ok(());
    }
    for (name, provider) in settings["identityProviders"].as_object().into_iter().flatten() {
        let given =
            |value: &Value| value.as_object().is_some_and(|o| o.values().any(|v| !v.is_null()));
        let on =
            name != PROVIDER && provider["enabled"] != false && given(&provider["registration"]);
        if on {
            return Err(format!(
                "The identity provider '{name}' is not available in this region: App Service authentication knows a linked static site's ('{PROVIDER}') alone."
            ));
        }
    }
    if let Some(action) = settings["globalValidation"]["unauthenticatedClientAction"].as_str()
        && !["RedirectToLoginPage", "AllowAnonymous", "Return401", "Return403", "Return404"]
            .contains(&action)
    {
        return Err(format!("'{action}' is not a valid unauthenticatedClientAction."));
    }
    Ok(())
}

/// Makes a slot the back end of the static site at `host`: from now on requests that come through it are
/// let in, and no others. A slot that already is, is left as it was set up since.
pub fn link(record: &mut SlotRecord, host: &str) {
    let settings = record.documents.entry(AUTH.to_owned()).or_insert_with(|| json!({}));
    if !settings.is_object() {
        *settings = json!({});
    }
    let on = settings["platform"]["enabled"] == true;
    if on && settings["identityProviders"][PROVIDER]["registration"]["clientId"] == *host {
        return;
    }
    settings["platform"]["enabled"] = json!(true);
    settings["identityProviders"][PROVIDER] =
        json!({ "enabled": true, "registration": { "clientId": host } });
    settings["globalValidation"]["requireAuthentication"] = json!(true);
    settings["globalValidation"]["unauthenticatedClientAction"] = json!("Return401");
}

/// Removes the authentication that [`link`] set up, as `isCleaningAuthConfig` asks of an unlinking.
pub fn unlink(record: &mut SlotRecord, host: &str) {
    let Some(settings) = record.documents.get_mut(AUTH) else { return };
    if settings["identityProviders"][PROVIDER]["registration"]["clientId"] != *host {
        return;
    }
    if let Some(providers) = settings["identityProviders"].as_object_mut() {
        providers.shift_remove(PROVIDER);
    }
    settings["platform"]["enabled"] = json!(false);
    settings["globalValidation"] = Value::Object(Map::from_iter([
        ("requireAuthentication".to_owned(), json!(false)),
        ("unauthenticatedClientAction".to_owned(), json!("AllowAnonymous")),
    ]));
}

#[cfg(test)]
mod tests {
    use lazuli_gateway::{Origin, Peer};

    use super::*;
    use crate::appservice::settings::tests::record;

    fn with(config: &Value) -> SlotRecord {
        let mut record = record();
        record.config = config.as_object().cloned().unwrap_or_default();
        record
    }

    fn admits(access: &Access, address: &str) -> bool {
        let ip: std::net::IpAddr = address.parse().expect("an address");
        let peer = Peer { addr: (ip, 1).into(), origin: Origin::Machine, tls: true };
        access.admits(peer, &http::HeaderMap::new())
    }

    #[test]
    fn rules_count_by_priority_and_what_none_fits_is_denied_once_there_is_one() {
        let record = with(&json!({ "ipSecurityRestrictions": [
            { "ipAddress": "127.0.0.0/8, 10.1.0.0/16", "action": "Allow", "priority": 200 },
            { "ipAddress": "127.0.0.9/32", "action": "Deny", "priority": 100 },
            { "ipAddress": "AzureFrontDoor.Backend", "tag": "ServiceTag", "action": "Allow", "priority": 1 },
            { "vnetSubnetResourceId": "/subscriptions/s", "action": "Allow", "priority": 2 },
        ]}));
        let access = site(&record);
        assert!(admits(&access, "127.0.0.1") && admits(&access, "10.1.2.3"));
        assert!(!admits(&access, "127.0.0.9") && !admits(&access, "8.8.8.8"));
        assert_eq!(scm(&record), Access::default());
        assert_eq!(site(&with(&json!({}))), Access::default());
        // What a list ends in is shown, sent back with what is added, and not kept.
        let (rules, otherwise) = RESTRICTIONS[0];
        let shown = shown(&with(&json!({})), rules, otherwise);
        assert_eq!(shown[0]["name"], "Allow all");
        assert_eq!(kept(&shown), json!([]));
        let ended = super::shown(&record, rules, otherwise);
        assert_eq!((&ended[4]["name"], &ended[4]["action"]), (&json!("Deny all"), &json!("Deny")));
        assert_eq!(kept(&ended), record.config[rules]);
    }

    #[test]
    fn the_default_action_and_the_scm_may_be_set_apart() {
        let denied = with(&json!({
            "ipSecurityRestrictionsDefaultAction": "Deny", "scmIpSecurityRestrictionsDefaultAction": "Allow",
        }));
        assert!(!admits(&site(&denied), "127.0.0.1") && admits(&scm(&denied), "127.0.0.1"));
        let main = with(&json!({
            "ipSecurityRestrictionsDefaultAction": "Deny", "scmIpSecurityRestrictionsUseMain": true,
        }));
        assert!(!admits(&scm(&main), "127.0.0.1"));
        let mut private = record();
        private.properties.insert("publicNetworkAccess".into(), json!("Disabled"));
        assert!(!admits(&site(&private), "127.0.0.1") && !admits(&scm(&private), "127.0.0.1"));
    }

    #[test]
    fn wrong_restrictions_are_refused() {
        for wrong in ["300.0.0.1/32", "10.0.0.0/33", "here", "10.0.0.1,"] {
            assert!(check(&json!([{ "ipAddress": wrong }])).is_err(), "{wrong}");
        }
        assert!(check(&json!([{ "ipAddress": "10.0.0.1/32", "action": "Maybe" }])).is_err());
        assert!(check(&json!([{ "ipAddress": "AzureCloud", "tag": "ServiceTag" }])).is_ok());
        assert!(cors(&json!({ "allowedOrigins": ["*"], "supportCredentials": true })).is_err());
        assert!(cors(&json!({ "allowedOrigins": "https://a" })).is_err());
        assert!(cors(&json!({ "allowedOrigins": [] })).expect("read").is_none());
    }

    #[test]
    fn a_link_closes_the_site_to_all_others_until_it_is_told_otherwise() {
        let mut record = record();
        assert!(auth(&record).is_none());
        link(&mut record, "calm.5.azurestaticapps.net");
        let closed = auth(&record).expect("on");
        assert_eq!(closed.linked.as_deref(), Some("calm.5.azurestaticapps.net"));
        assert_eq!(closed.otherwise, Unauthenticated::Refuse401);
        // What was set up since stays when the link is written again.
        let settings = record.documents.get_mut(AUTH).expect("a document");
        settings["globalValidation"]["unauthenticatedClientAction"] = json!("AllowAnonymous");
        assert!(check_auth(settings).is_ok());
        link(&mut record, "calm.5.azurestaticapps.net");
        assert_eq!(auth(&record).expect("on").otherwise, Unauthenticated::Allow);
        unlink(&mut record, "another.5.azurestaticapps.net");
        assert!(auth(&record).is_some());
        unlink(&mut record, "calm.5.azurestaticapps.net");
        assert!(auth(&record).is_none());
    }

    #[test]
    fn other_identity_providers_are_refused() {
        let settings = |provider: Value| json!({ "platform": { "enabled": true }, "identityProviders": provider });
        let with = json!({ "azureActiveDirectory": { "registration": { "clientId": "x" } } });
        assert!(check_auth(&settings(with.clone())).is_err());
        assert!(
            check_auth(&json!({ "platform": { "enabled": false }, "identityProviders": with }))
                .is_ok()
        );
        assert!(
            check_auth(&settings(json!({ "azureActiveDirectory": { "enabled": false } }))).is_ok()
        );
        assert!(check_auth(&settings(json!({ "gitHub": null }))).is_ok());
    }
}
