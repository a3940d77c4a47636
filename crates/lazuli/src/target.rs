//! Who answers the API: the local region, or Azure. The two differ in how they are reached and in who we
//! are to them, and in nothing else.

use std::fmt::Display;
use std::time::Instant;

use lazuli_azure::{Client, Connection, Credential, Secret};
use lazuli_release::cloud::Cloud;
use lazuli_release::event::Reporter;
use lazuli_release::notify::Notifier;
use lazuli_release::provision::{Tenancy, plan};
use lazuli_release::release::Release;

use crate::cli::{Context, Target};
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::project::Project;

/// A client and the subscription it works in.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) subscription: String,
    /// The tenant; only provisioning asks for it.
    pub(crate) tenant: String,
    /// The local region; `None` on Azure.
    pub(crate) region: Option<Environment>,
}

/// What only a local region has.
pub(crate) fn refuse_azure(cx: &Context) -> Result<(), Failure> {
    if cx.global.target != Target::Azure {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "this command is of the local region alone")
        .advise("drop --target azure"))
}

impl Session {
    /// A session with the target the command line names.
    pub(crate) fn open(cx: &Context) -> Result<Self, Failure> {
        match cx.global.target {
            Target::Local => Self::with(Environment::load(&cx.global.region)?),
            Target::Azure => Self::azure(),
        }
    }

    /// A session with Azure. How it is reached is the usual environment's affair (`HTTPS_PROXY`,
    /// `SSL_CERT_FILE`), who we are is [`lazuli_azure::entra`]'s.
    fn azure() -> Result<Self, Failure> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(subscription) =
            set("AZURE_SUBSCRIPTION_ID").or_else(|| set("ARM_SUBSCRIPTION_ID"))
        else {
            return Err(Failure::new(Exit::Target, "AZURE_SUBSCRIPTION_ID is not set").advise(
                "name it: export AZURE_SUBSCRIPTION_ID=$(az account show --query id -o tsv)",
            ));
        };
        let refused = |error: lazuli_azure::Error| {
            Failure::new(Exit::Target, "there is no credential for Azure")
                .cause(error.to_string())
                .advise("sign in: az login")
                .advise("or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
        };
        let connection = Connection::default();
        let credential = lazuli_azure::entra::credential(&connection, set).map_err(refused)?;
        let client = Client::new(&connection, credential).map_err(refused)?;
        let tenant = set("AZURE_TENANT_ID").or_else(|| set("ARM_TENANT_ID")).unwrap_or_default();
        Ok(Self { client, subscription, tenant, region: None })
    }

    /// A session with a local region.
    pub(crate) fn with(environment: Environment) -> Result<Self, Failure> {
        let unusable = |error: &dyn Display| {
            Failure::new(Exit::Target, "cannot connect to the region").cause(error.to_string())
        };
        let roots = std::fs::read_to_string(&environment.ca_certificate);
        let connection = Connection {
            proxy: Some(environment.proxy.clone()),
            roots: Some(roots.map_err(|error| unusable(&error))?),
        };
        let credential = Credential::client_secret(
            environment.tenant_id.clone(),
            environment.client_id.clone(),
            Secret::new(environment.client_secret.expose()),
        );
        let client = Client::new(&connection, credential).map_err(|error| unusable(&error))?;
        Ok(Self {
            client,
            subscription: environment.subscription_id.clone(),
            tenant: environment.tenant_id.clone(),
            region: Some(environment),
        })
    }

    /// The project's sites.
    pub(crate) fn cloud(&self, project: &Project) -> Cloud {
        Cloud::new(self.client.clone(), &self.subscription, &project.blueprint)
    }

    /// The release process for the project.
    pub(crate) fn release<'a>(
        &self,
        project: &'a Project,
        reporter: &Reporter,
        began: Instant,
    ) -> Release<'a> {
        let tenancy = Tenancy {
            subscription: self.subscription.clone(),
            tenant: self.tenant.clone(),
            month: jiff::Timestamp::now().strftime("%Y-%m").to_string(),
        };
        Release {
            project: &project.root,
            manifest: &project.manifest,
            environment: project.environment.as_str(),
            target: if self.region.is_some() { "local" } else { "azure" },
            blueprint: &project.blueprint,
            resources: plan(&project.blueprint, &tenancy).ok(),
            cloud: self.cloud(project),
            notifier: Notifier::from(|name| std::env::var(name).ok()),
            take_over: false,
            reporter: reporter.clone(),
            began,
        }
    }

    /// The address of a site that a browser can open, where it is another than Azure's.
    pub(crate) fn browser(&self, label: &str) -> Option<String> {
        self.region.as_ref().map(|_| format!("http://{label}.localhost:{}", self.port()))
    }

    /// The loopback port of the region, for addresses a browser can open.
    pub(crate) fn port(&self) -> &str {
        let proxy = self.region.as_ref().map(|region| region.proxy.as_str()).unwrap_or_default();
        proxy.rsplit(':').next().unwrap_or_default().trim_end_matches('/')
    }
}
