//! The front end alone, for `bench/frontend`: one site, one instance.
//!
//! `frontend PORT UPSTREAM-PORT REACTORS DIRECTORY`: serves `https://notes.localhost:PORT`. The CA is
//! kept in DIRECTORY, with the certificate and key that the rivals serve as `site.pem` and `site.key`.

use std::{env, error::Error, io, net::Ipv4Addr, net::TcpListener, path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use lazuli_gateway::{Authority, Dialer, Gateway, Instance, Options, Pool, Site, Table, Target};
use tokio::net::TcpStream;

// As the `lazuli` binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Nowhere;

impl Dialer for Nowhere {
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async { Err(io::Error::other("the benchmark stays on this machine")) })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "frontend PORT UPSTREAM-PORT REACTORS DIRECTORY";
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, upstream, reactors, directory] = arguments.as_slice() else {
        return Err(usage.into());
    };
    let directory = Path::new(directory);
    let authority = Authority::load_or_create(directory)?;
    let issued = authority.issue_pem(&["notes.localhost"])?;
    std::fs::write(directory.join("site.pem"), &issued.chain)?;
    std::fs::write(directory.join("site.key"), issued.key.expose())?;
    let options = Options { reactors: reactors.parse()?, ..Options::default() };
    let gateway = Gateway::new(authority, Arc::new(Nowhere), options)?;
    let instance =
        Arc::new(Instance::new("bench", (Ipv4Addr::LOCALHOST, upstream.parse()?).into()));
    let mut site = Site::new("notes", None);
    site.pool = Pool::new([instance]);
    site.affinity = false;
    let mut table = Table::new();
    table.insert("notes.azurewebsites.net", Target::Site(Arc::new(site)));
    gateway.publish(table);
    gateway.serve_machine(TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?)?;
    std::future::pending::<()>().await;
    Ok(())
}
