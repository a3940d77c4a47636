//! `GET /api/settings`: what SCM itself goes by. Application settings are not shown here: they hold
//! secrets, and whoever may read them does so through Resource Manager.

use http::Response;
use lazuli_gateway::Body;
use serde_json::{Map, Value, json};

use super::{Answer, Call, Refused, json_ok};
use crate::appservice::settings::setting;

/// Settings of SCM's own that are shown.
const SHOWN: &[&str] =
    &["SCM_DO_BUILD_DURING_DEPLOYMENT", "WEBSITE_SITE_NAME", "WEBSITE_HOSTNAME", "WEBJOBS_STOPPED"];

fn values<B>(call: &Call<B>) -> Map<String, Value> {
    let record = call.app.records.slot(&call.slot);
    let mut values = Map::new();
    for name in SHOWN {
        if let Some(value) = record.as_ref().and_then(|record| setting(&record.app_settings, name))
        {
            values.insert((*name).to_owned(), json!(value));
        }
    }
    values.insert("WEBSITE_SITE_NAME".into(), json!(call.slot.site.name));
    values.insert("WEBSITE_HOSTNAME".into(), json!(call.slot.host_name()));
    values.insert("ScmType".into(), json!("None"));
    values
}

pub(super) fn list<B>(call: &Call<B>) -> Response<Body> {
    json_ok(&Value::Object(values(call)))
}

pub(super) fn get<B>(call: &Call<B>, name: &str) -> Answer {
    let values = values(call);
    let value =
        values.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    value.map(json_ok).ok_or_else(|| Refused::not_found(&format!("Setting '{name}'")))
}

pub(super) fn environment() -> Response<Body> {
    json_ok(&json!({ "version": env!("CARGO_PKG_VERSION"), "siteLastModified": null }))
}
