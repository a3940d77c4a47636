//! Measures the region's control plane without a machine, on one thread: start-up, ARM GET, PUT and
//! lists, Key Vault's data plane, and memory, with 10, 1,000 and 10,000 resources. Prints a table.
//! Requests go the whole way of a real one but TLS and HTTP: routing, token, RBAC, store, audit.
//!
//! ```text
//! cargo build --workspace --profile dist --example control_plane
//! taskset -c 1 target/dist/examples/control_plane
//! ```

use std::{
    error::Error,
    io::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request};
use lazuli_azure::ResourceId;
use lazuli_gateway::{Origin, Peer};
use lazuli_region::{
    control::{Context, Control, Parts},
    directory::Directory,
    http::Whole as _,
    identity::{Identity, entra},
    names::{Addresses, Names},
    seal::Sealer,
    store::{Batch, Store},
    tenancy::Tenancy,
    vault::{Vaults, audit::Audit, rest::DataPlane},
};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

async fn open(directory: &Directory) -> Outcome<Arc<Control>> {
    directory.create()?;
    let store = Store::open(&directory.store())?;
    let sealer = Arc::new(Sealer::open(&directory.vault_key())?);
    let tenancy = Tenancy::open(&store).await?;
    let identity = Identity::open(&store, &sealer, &tenancy, directory).await?;
    let audit = Audit::open(&directory.logs().join("audit.jsonl"))?;
    let vaults = Vaults::new(&store, sealer.clone(), audit);
    let context = Context::new(Parts {
        store,
        tenancy,
        sealer,
        identity,
        vaults,
        names: Names::default(),
        addresses: Addresses::in_memory(),
        host: None,
        gateway: None,
    });
    let control = Control::new(Arc::new(context));
    control.start().await?;
    Ok(control)
}

fn token(control: &Control, scope: &str) -> Outcome<String> {
    let identity = &control.context().identity;
    let deployer = identity.deployer();
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &deployer.client_id)
        .append_pair("client_secret", &deployer.client_secret)
        .append_pair("scope", scope)
        .finish();
    let path = format!("/{}/oauth2/v2.0/token", control.context().tenancy.tenant_id);
    let (_, answer) = entra::answer(identity, &Method::POST, &path, "", form.as_bytes());
    Ok(answer["access_token"].as_str().ok_or("no token")?.to_owned())
}

async fn call(
    control: &Control,
    token: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Outcome<()> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?api-version=2025-01-01"))
        .header("authorization", format!("Bearer {token}"))
        .body(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default())?;
    let response = control.handle(request).await;
    if response.status().is_success() { Ok(()) } else { Err(format!("{response:?}").into()) }
}

/// A request to the data plane of the vault `kv`.
async fn secret(
    plane: &Arc<DataPlane>,
    token: &str,
    method: Method,
    name: &str,
    body: Option<&Value>,
) -> Outcome<()> {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://kv.vault.azure.net/secrets/{name}?api-version=7.4"))
        .header("authorization", format!("Bearer {token}"))
        .body(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default())?;
    let peer =
        Peer { addr: SocketAddr::from(([127, 0, 0, 1], 1)), origin: Origin::Machine, tls: true };
    let response = plane.clone().answer(request, peer).await;
    if response.status().is_success() { Ok(()) } else { Err(format!("{response:?}").into()) }
}

/// Resident memory in MiB.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// What one line of the table says: rate, median, 99th percentile.
fn line(
    out: &mut impl std::io::Write,
    what: &str,
    mut took: Vec<Duration>,
    all: Duration,
) -> Outcome<()> {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    let rate = f64::from(u32::try_from(took.len())?) / all.as_secs_f64();
    writeln!(out, "{what:<44} {rate:>9.0}/s  p50 {:>9.1?}  p99 {:>9.1?}", at(50), at(99))?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut out = std::io::stdout();
    for resources in [10_u32, 1_000, 10_000] {
        let dir = tempfile::tempdir()?;
        let directory = Directory::at(dir.path());
        let control = open(&directory).await?;
        let subscription = control.context().tenancy.subscription_id.clone();
        let group = |n: u32| format!("/subscriptions/{subscription}/resourceGroups/g{}", n % 100);
        let mut batch = Batch::new();
        for n in 0..100.min(resources) {
            batch.put(&ResourceId::parse(&group(n))?, json!({ "location": "westeurope", "properties": { "provisioningState": "Succeeded" } }));
        }
        for n in 0..resources {
            let id =
                format!("{}/providers/Microsoft.Network/networkSecurityGroups/nsg{n}", group(n));
            batch.put(&ResourceId::parse(&id)?, json!({ "location": "westeurope", "tags": { "app": "notes" }, "properties": { "provisioningState": "Succeeded" } }));
        }
        let vault = format!("{}/providers/Microsoft.KeyVault/vaults/kv", group(0));
        batch.put(&ResourceId::parse(&vault)?, json!({
            "location": "westeurope", "properties": { "enableRbacAuthorization": true, "provisioningState": "Succeeded" },
        }));
        let officer = format!(
            "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
        );
        let assignment = format!(
            "{vault}/providers/Microsoft.Authorization/roleAssignments/b86a8fe4-44ce-4948-aee5-eccb2c155cd8"
        );
        batch.put(&ResourceId::parse(&assignment)?, json!({ "properties": {
            "principalId": control.context().identity.deployer().object_id, "roleDefinitionId": officer,
        }}));
        control.context().store.commit(batch).await?;
        while Arc::strong_count(control.context()) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(control);

        let began = Instant::now();
        let control = open(&directory).await?;
        writeln!(out, "start with {resources} resources{:>52.1?}", began.elapsed())?;
        writeln!(out, "  memory{:>62} MiB", resident()?)?;
        let for_vault = token(&control, "https://vault.azure.net/.default")?;
        let token = token(&control, "https://management.azure.com/.default")?;
        let nsg = |n: u32| {
            format!("{}/providers/Microsoft.Network/networkSecurityGroups/nsg{n}", group(n))
        };

        let (mut took, began) = (Vec::new(), Instant::now());
        for n in 0..2_000 {
            let one = Instant::now();
            call(&control, &token, Method::GET, &nsg(n % resources), None).await?;
            took.push(one.elapsed());
        }
        line(&mut out, &format!("  GET, {resources} resources"), took, began.elapsed())?;

        let body = json!({ "location": "westeurope" });
        // On ten resources several writers want the same one: they take turns.
        for writers in [1_u32, 32] {
            let began = Instant::now();
            let rounds = 320 / writers;
            let write = |writer: u32| {
                let (control, token, body, nsg) = (&control, &token, &body, &nsg);
                async move {
                    let mut took = Vec::new();
                    for n in 0..rounds {
                        let one = Instant::now();
                        let path = nsg((writer + writers * n) % resources);
                        call(control, token, Method::PUT, &path, Some(body)).await?;
                        took.push(one.elapsed());
                    }
                    Ok::<_, Box<dyn Error>>(took)
                }
            };
            let done = futures_util::future::try_join_all((0..writers).map(write)).await?;
            line(&mut out, &format!("  PUT, {writers} writers"), done.concat(), began.elapsed())?;
        }
        let (mut took, began) = (Vec::new(), Instant::now());
        for n in 0..50 {
            let one = Instant::now();
            call(
                &control,
                &token,
                Method::GET,
                &format!("{}/providers/Microsoft.Network/networkSecurityGroups", group(n)),
                None,
            )
            .await
            .or_else(|e| if resources < 100 { Ok(()) } else { Err(e) })?;
            took.push(one.elapsed());
        }
        line(&mut out, "  GET of a group's list", took, began.elapsed())?;

        let plane =
            DataPlane::new(control.context().vaults.clone(), control.context().identity.clone());
        let value = json!({ "value": "a value" });
        let (mut took, began) = (Vec::new(), Instant::now());
        for n in 0..200 {
            let one = Instant::now();
            secret(&plane, &for_vault, Method::PUT, &format!("s{}", n % 50), Some(&value)).await?;
            took.push(one.elapsed());
        }
        line(&mut out, "  Key Vault PUT secret", took, began.elapsed())?;
        let (mut took, began) = (Vec::new(), Instant::now());
        for n in 0..2_000 {
            let one = Instant::now();
            secret(&plane, &for_vault, Method::GET, &format!("s{}", n % 50), None).await?;
            took.push(one.elapsed());
        }
        line(&mut out, "  Key Vault GET secret", took, began.elapsed())?;
    }
    Ok(())
}
