use std::io;
use std::net::Ipv4Addr;

use crate::{Error, Process, Spec};

/// The machine as core may use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {}

impl Host {
    /// Connects from the machine's own network: edge resolves the name and connects, and passes the
    /// socket in, so that no byte is copied on the way.
    pub async fn dial_out(&self, _host: &str, _port: u16) -> io::Result<tokio::net::TcpStream> {
        todo!()
    }

    /// Gives the region's bridge another address. Idempotent.
    pub async fn add_address(&self, _address: Ipv4Addr) -> Result<(), Error> {
        todo!()
    }

    /// Takes an address off the region's bridge. Idempotent.
    pub async fn remove_address(&self, _address: Ipv4Addr) -> Result<(), Error> {
        todo!()
    }

    /// Starts a program in a sandbox; returns once the program itself has been executed.
    pub async fn spawn(&self, _spec: Spec) -> Result<Process, Error> {
        todo!()
    }
}
