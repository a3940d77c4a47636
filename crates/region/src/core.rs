//! Core: the region itself, in the region's own network. Puts the parts together, and that is all.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use lazuli_azure::{Client, Connection, Credential, Secret};
use lazuli_gateway::{Authority, Dialer, Gateway, Options, Service, Target};
use lazuli_host::Host;
use lazuli_host::core::Inherited;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::appservice::adapters::{Front, PROXY, Rbac, Region};
use crate::appservice::build::SandboxBuilder;
use crate::appservice::content::{Layout, Limits};
use crate::appservice::python::Pythons;
use crate::appservice::records::Records;
use crate::appservice::sandbox::{Addresses as InstanceAddresses, SandboxRuntime};
use crate::appservice::supervisor::Timing;
use crate::appservice::{AppService, Parts as AppServiceParts};
use crate::control::activity::Activity;
use crate::control::{self, Context, Control, Parts};
use crate::directory::Directory;
use crate::identity::entra::{self, Entra};
use crate::identity::graph::{self, Graph};
use crate::identity::{Identity, imds, msi};
use crate::monitor::Logs;
use crate::monitor::query::{self, QueryApi};
use crate::names::{Addresses, Names};
use crate::postgres::{self, Postgres};
use crate::quiet::{self, Quiet};
use crate::redis::{self, Redis};
use crate::reseal;
use crate::seal::{Sealer, write_private};
use crate::staticweb::StaticWeb;
use crate::staticweb::fetch::Fetcher;
use crate::storage::Storage;
use crate::store::Store;
use crate::tenancy::Tenancy;
use crate::vault::Vaults;
use crate::vault::audit::Audit;
use crate::vault::expiry;

/// How long instances get to finish what they do when the region stops.
const STOP_INSTANCES: Duration = Duration::from_secs(15);
/// How often Key Vault forgets what was deleted long enough ago.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs core; `arguments` are the region's directory alone. Returns when the region has stopped.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let began = Instant::now();
    start_logging();
    let [directory] = arguments else {
        tracing::error!("core is started by `lazuli region start`, not by hand");
        return ExitCode::from(2);
    };
    let directory = Directory::at(directory);
    // While there is one thread: it enters namespaces' leftovers and sets the network up.
    let Inherited { listeners, host, ready } = match lazuli_host::core::inherit() {
        Ok(inherited) => inherited,
        Err(error) => {
            tracing::error!(%error, "core cannot start");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ready.failed(&format!("the asynchronous runtime does not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let region = match Assembled::start(&directory, host, listeners).await {
            Ok(region) => region,
            Err(error) => {
                tracing::error!(%error, "the region cannot start");
                ready.failed(&error.to_string());
                return ExitCode::FAILURE;
            }
        };
        tracing::info!(elapsed = ?began.elapsed(), "the region serves");
        ready.ready();
        region.run().await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAZULI_REGION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}

/// The region's outside connections, made by edge.
struct Outside(Host);

impl Dialer for Outside {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<TcpStream>> {
        let (machine, host) = (self.0.clone(), host.to_owned());
        Box::pin(async move { machine.dial_out(&host, port).await })
    }
}

/// Every part, running.
struct Assembled {
    gateway: Arc<Gateway>,
    app: Arc<AppService>,
    vaults: Arc<Vaults>,
    control: Arc<Control>,
    postgres: Arc<Postgres>,
    redis: Arc<Redis>,
}

impl Assembled {
    async fn start(
        directory: &Directory,
        host: Host,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<Self, Failure> {
        directory.create()?;
        let pythons = Arc::new(Pythons::default());
        let store = Store::open(&directory.store())?;
        let sealer = reseal::open(&directory.vault_key(), &store, &directory.storage()).await?;
        let sealer = Arc::new(sealer);
        let tenancy = Tenancy::open(&store).await?;
        let identity = Identity::open(&store, &sealer, &tenancy, directory).await?;
        let names = Names::default();
        let authority = Authority::load_or_create(&directory.ca())?;
        authority.write_bundle(&directory.ca_bundle())?;
        let gateway =
            Gateway::new(authority.clone(), Arc::new(Outside(host.clone())), Options::default())?;
        let logs = Logs::open(directory.logs().join("workspaces"), &store)?;
        let audit = Audit::open(&directory.logs().join("vault-audit.jsonl"))?.sent_by(logs.clone());
        let vaults = Vaults::new(&store, sealer.clone(), audit);
        vaults.adopt().await?;
        let postgres = Arc::new(Postgres::new(postgres::Config {
            host: host.clone(),
            authority: authority.clone(),
            names: names.clone(),
            root: directory.postgres(),
            logs: directory.logs(),
        }));
        let redis = Arc::new(Redis::new(redis::Config {
            host: host.clone(),
            authority: authority.clone(),
            names: names.clone(),
            root: directory.redis(),
            logs: directory.logs(),
        }));
        let storage =
            Storage::open(directory.storage(), store.clone(), sealer.clone(), identity.clone())?;
        let app = app_service(
            directory,
            &host,
            &store,
            &sealer,
            &identity,
            &names,
            &gateway,
            &vaults,
            pythons.clone(),
        );
        let static_web = StaticWeb::open(
            directory.static_web(),
            store.clone(),
            gateway.clone(),
            Fetcher::new(
                serve_core(&gateway)?,
                std::fs::read_to_string(directory.ca_bundle()).ok(),
            ),
        )?;
        let context = Context::new(Parts {
            store: store.clone(),
            tenancy: tenancy.clone(),
            sealer,
            identity: identity.clone(),
            vaults: vaults.clone(),
            names: names.clone(),
            addresses: Addresses::open(directory.root())?,
            host: Some(host.clone()),
            gateway: Some(gateway.clone()),
        })
        .with(app.clone())
        .with(postgres.clone())
        .with(redis.clone())
        .with(storage)
        .with(static_web)
        .logging(Activity::open(directory.logs().join("activity.jsonl"))?)
        .with(authority.clone());
        let control = Control::new(Arc::new(context));
        control::types::resume_servers(control.context());

        let entra: Arc<dyn Service> = Entra::new(identity.clone());
        let graph: Arc<dyn Service> = Graph::new(identity.clone());
        let queries: Arc<dyn Service> = QueryApi::new(identity.clone(), logs);
        let quiet: Arc<dyn Service> = Arc::new(Quiet);
        let manager: Arc<dyn Service> = control.clone();
        gateway.update(|table| {
            table.insert(control::HOST, Target::Service(manager.clone()));
            for name in [entra::HOST, "login.windows.net", "login.microsoft.com"] {
                table.insert(name, Target::Service(entra.clone()));
            }
            table.insert(graph::HOST, Target::Service(graph.clone()));
            for name in query::HOSTS {
                table.insert(name, Target::Service(queries.clone()));
            }
            for name in quiet::HOSTS {
                table.insert(name, Target::Service(quiet.clone()));
            }
        });
        serve_inside(&host, &gateway, &identity).await?;
        ask_the_world(directory, &vaults, &identity);
        tokio::spawn(names.clone().keep_file(directory.hosts()));
        control.start().await?;
        let address = listeners.first().ok_or("edge handed no listener over")?.local_addr()?;
        for listener in listeners {
            gateway.serve_machine(listener)?;
        }
        write_environment(directory, address, &identity, &tenancy, &authority)?;
        app.recover().await?;
        // Interpreters take long to say what they are: after everything that somebody waits for.
        pythons.look();
        Ok(Self { gateway, app, vaults, control, postgres, redis })
    }

    /// Runs until told to stop, then stops everything in good order.
    async fn run(self) -> ExitCode {
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "cannot listen for signals");
                    return ExitCode::FAILURE;
                }
            };
        let mut purge = tokio::time::interval(PURGE_INTERVAL);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = purge.tick() => {
                    if let Err(error) = self.vaults.purge_expired().await {
                        tracing::error!(%error, "Key Vault could not purge what was deleted");
                    }
                }
            }
        }
        tracing::info!("the region stops");
        // What is in flight finishes while instances are asked to end.
        tokio::join!(
            self.gateway.shutdown(Duration::from_secs(5)),
            self.app.shutdown(STOP_INSTANCES)
        );
        drop(self.control);
        // After the instances, whose last requests may still need them.
        tokio::join!(self.postgres.shutdown(), self.redis.shutdown());
        tracing::info!("the region has stopped");
        ExitCode::SUCCESS
    }
}

#[expect(clippy::too_many_arguments, reason = "App Service needs most of the region, once")]
fn app_service(
    directory: &Directory,
    host: &Host,
    store: &Store,
    sealer: &Arc<Sealer>,
    identity: &Arc<Identity>,
    names: &Names,
    gateway: &Arc<Gateway>,
    vaults: &Arc<Vaults>,
    pythons: Arc<Pythons>,
) -> Arc<AppService> {
    let layout = Layout::new(directory.apps());
    let addresses = InstanceAddresses::default();
    let surroundings = Arc::new(Region {
        names: names.clone(),
        identity: identity.clone(),
        ca_bundle: directory.ca_bundle(),
    });
    AppService::new(AppServiceParts {
        records: Records::new(store.clone(), sealer.clone()),
        routes: Arc::new(Front(gateway.clone())),
        runtime: Arc::new(SandboxRuntime {
            host: host.clone(),
            layout: layout.clone(),
            addresses: addresses.clone(),
            surroundings: surroundings.clone(),
            pythons: pythons.clone(),
        }),
        builder: Arc::new(SandboxBuilder::new(
            host.clone(),
            layout.clone(),
            addresses,
            surroundings,
            pythons,
        )),
        secrets: vaults.clone(),
        authorize: Arc::new(Rbac { identity: identity.clone(), store: store.clone() }),
        layout,
        limits: Limits::default(),
        timing: Timing::default(),
    })
}

/// The listeners inside the region: the sandboxes' proxy, the managed-identity endpoint, the metadata
/// service.
async fn serve_inside(
    host: &Host,
    gateway: &Arc<Gateway>,
    identity: &Arc<Identity>,
) -> Result<(), Failure> {
    let proxy = std::net::TcpListener::bind(SocketAddr::from(PROXY))?;
    proxy.set_nonblocking(true)?;
    gateway.serve_inside_proxy(proxy)?;
    host.add_address(msi::ADDRESS).await?;
    let endpoint = tokio::net::TcpListener::bind((msi::ADDRESS, msi::PORT)).await?;
    tokio::spawn(msi::serve(identity.clone(), endpoint));
    host.add_address(imds::ADDRESS).await?;
    let metadata = tokio::net::TcpListener::bind((imds::ADDRESS, imds::PORT)).await?;
    tokio::spawn(imds::serve(identity.clone(), metadata));
    Ok(())
}

/// A way for core itself to ask as a program on the machine would; the address, as a proxy's. Nobody else
/// is in this network's loopback: every sandbox has its own.
fn serve_core(gateway: &Arc<Gateway>) -> io::Result<String> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    gateway.serve_machine(listener)?;
    Ok(format!("http://{address}"))
}

/// Whatever the region itself asks of the world: looks now and then for secrets that expire, and tells
/// their vaults' event subscriptions; fetches the keys of other issuers of tokens.
fn ask_the_world(directory: &Directory, vaults: &Arc<Vaults>, identity: &Arc<Identity>) {
    let bundle = directory.ca_bundle();
    let (vaults, identity) = (vaults.clone(), identity.clone());
    tokio::spawn(async move {
        // As an app inside would reach a webhook: through the region's own proxy.
        let connection = Connection {
            proxy: Some(format!("http://{}:{}", PROXY.0, PROXY.1)),
            roots: std::fs::read_to_string(bundle).ok(),
        };
        // Webhooks are given no token: the credential is never asked.
        let nobody = Credential::client_secret(String::new(), String::new(), Secret::new(""));
        let client = match Client::new(&connection, nobody) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "webhooks and other issuers of tokens cannot be reached");
                return;
            }
        };
        identity.reach_issuers_by(client.clone());
        let mut ticks = tokio::time::interval(expiry::INTERVAL);
        loop {
            ticks.tick().await;
            vaults.deliver_events(&client).await;
        }
    });
}

/// Tells clients on this machine how to reach the region and who they are there.
fn write_environment(
    directory: &Directory,
    address: SocketAddr,
    identity: &Identity,
    tenancy: &Tenancy,
    authority: &Authority,
) -> io::Result<()> {
    let certificate = directory.root().join("ca-certificate.pem");
    write_private(&certificate, authority.ca_pem().as_bytes())?;
    identity.set_port(address.port());
    let (deployer, developer) = (identity.deployer(), identity.developer());
    let environment = json!({
        "proxy": format!("http://{address}"),
        "caBundle": directory.ca_bundle(),
        "caCertificate": certificate,
        "tenantId": tenancy.tenant_id,
        "clientId": deployer.client_id,
        "clientSecret": *deployer.client_secret,
        "developer": developer.upn,
        "developerPassword": *developer.password,
        "subscriptionId": tenancy.subscription_id,
        "dir": directory.root(),
        "azureConfigDir": directory.root().join("azure"),
    });
    write_private(&directory.environment(), environment.to_string().as_bytes())
}
