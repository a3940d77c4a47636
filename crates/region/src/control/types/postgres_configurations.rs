//! `Microsoft.DBforPostgreSQL/flexibleServers/configurations`: server parameters
//! (<https://learn.microsoft.com/rest/api/postgresql/configurations>). Every parameter that the
//! server has is shown, as it runs with it; only those that were set are stored.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    LongRunning, Placement, Query, ResourceType, Style, Write, postgres_flexible_servers as servers,
};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    postgres::{POOLER_PARAMETERS, PoolerParameter, Setting},
    store::{Batch, Resource},
};

/// Server parameters.
pub(super) struct Configurations;

const SCHEMA: Schema = Schema(&[
    schema::text("value"),
    schema::choice("source", &["user-override", "system-default"]).or_text("user-override"),
]);

/// Ours, because the region could not work otherwise: shown, but not to be set.
const OURS: [&str; 18] = [
    "config_file",
    "data_directory",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "log_destination",
    "logging_collector",
    "password_encryption",
    "port",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "external_pid_file",
    "archive_command",
];

/// A parameter as the server or PgBouncer has it.
enum Parameter {
    Server(Box<Setting>),
    Pooler(&'static PoolerParameter),
    /// `require_secure_transport`, which is Azure's own.
    Transport,
}

impl Parameter {
    fn find(context: &Context, id: &ResourceId) -> Option<Self> {
        let name = id.name().to_ascii_lowercase();
        if name == "require_secure_transport" {
            return Some(Self::Transport);
        }
        if let Some(parameter) = POOLER_PARAMETERS.iter().find(|p| p.name == name) {
            return Some(Self::Pooler(parameter));
        }
        let server = id.parent()?;
        let status = servers::servers(context)?.status(server.name())?;
        status
            .settings
            .iter()
            .find(|setting| setting.name == name)
            .cloned()
            .map(|setting| Self::Server(Box::new(setting)))
    }

    fn name(&self) -> &str {
        match self {
            Self::Server(setting) => &setting.name,
            Self::Pooler(parameter) => parameter.name,
            Self::Transport => "require_secure_transport",
        }
    }

    fn default(&self) -> &str {
        match self {
            Self::Server(setting) => &setting.default,
            Self::Pooler(parameter) => parameter.default,
            Self::Transport => "on",
        }
    }

    fn read_only(&self) -> bool {
        match self {
            Self::Server(setting) => {
                setting.context == "internal" || OURS.contains(&setting.name.as_str())
            }
            Self::Pooler(_) | Self::Transport => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Server(setting) => match setting.kind.as_str() {
                "bool" => "Boolean",
                "integer" => "Integer",
                "real" => "Numeric",
                "enum" => "Enumeration",
                _ => "String",
            },
            Self::Pooler(parameter) => parameter.kind,
            Self::Transport => "Boolean",
        }
    }

    fn allowed(&self) -> String {
        match self {
            Self::Server(setting) => match (&setting.range, setting.kind.as_str()) {
                (Some((least, most)), _) => format!("{least}-{most}"),
                (None, "bool") => "on,off".to_owned(),
                (None, "enum") => setting.choices.join(","),
                _ => ".*".to_owned(),
            },
            Self::Pooler(parameter) => parameter.allowed.to_owned(),
            Self::Transport => "on,off".to_owned(),
        }
    }

    /// Whether the value may be set, by the parameter's kind and limits.
    fn accepts(&self, value: &str) -> bool {
        let within = |value: f64, least: &str, most: &str| {
            least.parse().is_ok_and(|least: f64| value >= least)
                && most.parse().is_ok_and(|most: f64| value <= most)
        };
        let boolean =
            ["on", "off", "true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value));
        match self {
            Self::Transport => boolean,
            Self::Server(setting) => match setting.kind.as_str() {
                "bool" => boolean,
                "enum" => setting.choices.iter().any(|choice| choice.eq_ignore_ascii_case(value)),
                "integer" | "real" => value.parse().is_ok_and(|number: f64| {
                    setting.range.as_ref().is_none_or(|(least, most)| within(number, least, most))
                }),
                _ => !value.contains(['\0', '\n', '\r']),
            },
            Self::Pooler(parameter) => match parameter.kind {
                "Boolean" => boolean,
                "Integer" => {
                    let (least, most) = parameter.allowed.split_once('-').unwrap_or(("0", "0"));
                    value.parse::<u32>().is_ok_and(|number| within(number.into(), least, most))
                }
                "Enumeration" => {
                    parameter.allowed.split(',').any(|choice| choice.eq_ignore_ascii_case(value))
                }
                _ => value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ' ' | '-')),
            },
        }
    }

    fn body(&self, set: Option<&Value>) -> Value {
        let set_value = set.and_then(|body| body["properties"]["value"].as_str());
        let (running, pending, description, unit) = match self {
            Self::Server(setting) => (
                setting.value.as_str(),
                setting.pending_restart,
                setting.description.as_str(),
                setting.unit.as_deref(),
            ),
            Self::Pooler(parameter) => (parameter.default, false, parameter.description, None),
            Self::Transport => {
                ("on", false, "Whether client connections are required to use TLS.", None)
            }
        };
        let dynamic = !matches!(self, Self::Server(setting) if setting.context == "postmaster");
        let value = set_value.unwrap_or(running);
        let source =
            set.and_then(|body| body["properties"]["source"].as_str()).unwrap_or("system-default");
        json!({ "properties": {
            "value": value,
            "description": description,
            "defaultValue": self.default(),
            "dataType": self.kind(),
            "allowedValues": self.allowed(),
            "source": source,
            "isDynamicConfig": dynamic,
            "isReadOnly": self.read_only(),
            "isConfigPendingRestart": pending,
            "unit": unit,
            "documentationLink": format!(
                "https://www.postgresql.org/docs/current/runtime-config.html#GUC-{}",
                self.name().to_ascii_uppercase().replace('_', "-")
            ),
        }})
    }
}

fn unstored(id: ResourceId, body: Value) -> Arc<Resource> {
    Arc::new(Resource {
        id,
        body,
        etag: "default".into(),
        created: Timestamp::UNIX_EPOCH,
        changed: Timestamp::UNIX_EPOCH,
    })
}

impl ResourceType for Configurations {
    fn kind(&self) -> &'static str {
        servers::CONFIGURATIONS
    }

    fn api_versions(&self) -> &'static [&'static str] {
        servers::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, _: &str) -> Result<(), ArmError> {
        // Whether there is such a parameter is asked of the server.
        Ok(())
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let name = write.id.name();
        let Some(parameter) = Parameter::find(context, write.id) else {
            return Err(ArmError::new(
                StatusCode::NOT_FOUND,
                "ConfigurationNotExists",
                format!("The configuration '{name}' does not exist for this server."),
            ));
        };
        if parameter.read_only() {
            return Err(ArmError::bad_request(
                "ConfigurationReadOnly",
                format!("The configuration '{name}' is read-only."),
            ));
        }
        let server = write.id.parent().and_then(|id| context.store.get(&id));
        if matches!(parameter, Parameter::Pooler(_))
            && server.is_some_and(|server| !servers::pooler_offered(&server))
        {
            return Err(ArmError::bad_request(
                "InvalidParameterValue",
                "PgBouncer is not supported on the Burstable tier. Use General Purpose or Memory Optimized.",
            )
            .at(name));
        }
        let body = SCHEMA.apply(write)?;
        // `system-default` without a value is how a client resets a parameter.
        let value = body["properties"]["value"].as_str().unwrap_or_else(|| parameter.default());
        if !parameter.accepts(value) {
            return Err(ArmError::bad_request(
                "InvalidParameterValue",
                format!(
                    "Invalid value given for parameter {name}. Specify a valid parameter value: {}.",
                    parameter.allowed()
                ),
            )
            .at("properties.value"));
        }
        Ok(json!({ "properties": {
            "value": value, "source": body["properties"]["source"],
        }}))
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            match id.parent() {
                Some(server) => servers::apply(context, &server).await,
                None => Ok(()),
            }
        })
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        context.store.get(id).or_else(|| {
            context.store.get(&id.parent()?)?;
            let parameter = Parameter::find(context, id)?;
            Some(unstored(id.clone(), parameter.body(None)))
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        match Parameter::find(context, &resource.id) {
            Some(parameter) => {
                let set = context.store.get(&resource.id);
                parameter.body(set.as_ref().map(|set| &set.body))
            }
            None => resource.body.clone(),
        }
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let status = servers::servers(context).and_then(|servers| servers.status(scope.name()));
        let mut names: Vec<String> = status
            .iter()
            .flat_map(|status| status.settings.iter().map(|setting| setting.name.clone()))
            .chain(POOLER_PARAMETERS.iter().map(|parameter| parameter.name.to_owned()))
            .chain(["require_secure_transport".to_owned()])
            .collect();
        names.sort();
        Ok(names
            .iter()
            .filter_map(|name| scope.child("configurations", name).ok())
            .filter_map(|id| self.find(context, &id))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poolers_parameters_have_azures_limits() {
        let named = |name: &str| {
            let parameter = POOLER_PARAMETERS.iter().find(|p| p.name == name);
            Parameter::Pooler(parameter.unwrap_or_else(|| panic!("{name} exists")))
        };
        for (name, good, bad) in [
            ("pgbouncer.default_pool_size", "50", "0"),
            ("pgbouncer.pool_mode", "Transaction", "sometimes"),
            ("pgbouncer.enabled", "true", "yes please"),
            ("pgbouncer.stats_users", "lazuliadmin, other", "a\nauth_type = any"),
            ("pgbouncer.server_idle_timeout", "600", "-1"),
        ] {
            assert!(named(name).accepts(good), "{name} = {good}");
            assert!(!named(name).accepts(bad), "{name} = {bad}");
            assert!(named(name).accepts(named(name).default()), "{name}'s default");
        }
    }

    #[test]
    fn a_line_break_never_reaches_a_configuration_file() {
        let text = Parameter::Server(Box::new(Setting {
            name: "application_name".to_owned(),
            value: String::new(),
            default: String::new(),
            kind: "string".to_owned(),
            choices: Vec::new(),
            range: None,
            unit: None,
            context: "user".to_owned(),
            description: String::new(),
            pending_restart: false,
        }));
        assert!(text.accepts("it's"));
        assert!(!text.accepts("x'\nhba_file = '/tmp/mine"));
    }
}
