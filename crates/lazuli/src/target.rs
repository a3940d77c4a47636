//! Who answers the API: the local region. Azure itself is refused, before anything is sent, until its
//! credentials are built.

use std::fmt::Display;
use std::time::Instant;

use lazuli_azure::{Client, Connection, Credential, Secret};
use lazuli_release::cloud::Cloud;
use lazuli_release::event::Reporter;
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
    pub(crate) environment: Environment,
}

/// Refuses `--target azure`.
pub(crate) fn refuse_azure(cx: &Context) -> Result<(), Failure> {
    if cx.global.target != Target::Azure {
        return Ok(());
    }
    Err(Failure::new(Exit::Target, "there is no Azure credential to use with --target azure")
        .cause("this version of lazuli signs in to local regions only")
        .advise("rehearse the release: drop --target azure")
        .advise("the Azure CLI's, managed and workload identities come with the release process's next step"))
}

impl Session {
    /// A session with the target the command line names.
    pub(crate) fn open(cx: &Context) -> Result<Self, Failure> {
        refuse_azure(cx)?;
        Self::with(Environment::load(&cx.global.region)?)
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
        Ok(Self { client, subscription: environment.subscription_id.clone(), environment })
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
        Release {
            project: &project.root,
            manifest: &project.manifest,
            environment: project.environment.as_str(),
            target: "local",
            cloud: self.cloud(project),
            reporter: reporter.clone(),
            began,
        }
    }

    /// The loopback port of the region, for addresses a browser can open.
    pub(crate) fn port(&self) -> &str {
        self.environment.proxy.rsplit(':').next().unwrap_or_default().trim_end_matches('/')
    }
}
