//! The region's bridge `vnet0`, its addresses and the sandboxes' cables, over rtnetlink.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::Error;

const NAME: &str = "vnet0";
/// A bridge without an address of its own takes its ports', and changes it as they come and go;
/// every sandbox's ARP entry of its gateway would then be stale.
const MAC: [u8; 6] = [0x02, 0, 0x0a, 0, 0, 1];

/// The gateways of the subnets: app, private endpoints, database, management.
const GATEWAYS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 0, 1, 1),
    Ipv4Addr::new(10, 0, 2, 1),
    Ipv4Addr::new(10, 0, 3, 1),
    Ipv4Addr::new(10, 0, 4, 1),
];

pub(crate) struct Bridge {
    handle: Handle,
    index: u32,
    /// The sandbox and the interface index behind each plugged address.
    cables: Mutex<HashMap<Ipv4Addr, (i32, u32)>>,
}

impl Bridge {
    /// Creates the bridge in the current network namespace, which has none yet.
    pub(crate) async fn create() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|e| Error::io("talk to the kernel's network", e))?;
        tokio::spawn(connection);
        handle
            .link()
            .add(LinkBridge::new(NAME).address(MAC.to_vec()).build())
            .execute()
            .await
            .map_err(|e| {
                let mut error =
                    failed("create the bridge vnet0 (is the kernel module `bridge` there?)")(e);
                if let Error::Network { source, .. } = &mut error
                    && source.raw_os_error() == Some(libc::EOPNOTSUPP)
                {
                    *source =
                        io::Error::other("the kernel has no bridges: sudo modprobe bridge veth");
                }
                error
            })?;
        let index = index_of(&handle, NAME).await?;
        for gateway in GATEWAYS {
            handle
                .address()
                .add(index, IpAddr::V4(gateway), 24)
                .execute()
                .await
                .map_err(failed("give vnet0 its addresses"))?;
        }
        Ok(Self { handle, index, cables: Mutex::default() })
    }

    pub(crate) async fn add_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        // /32, so that addresses come and go independently: within a /24 the first one added is
        // primary and takes the others along.
        self.handle
            .address()
            .add(self.index, IpAddr::V4(address), 32)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("add the address {address}")))
    }

    pub(crate) async fn remove_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        let mut found = self
            .handle
            .address()
            .get()
            .set_link_index_filter(self.index)
            .set_prefix_length_filter(32)
            .set_address_filter(IpAddr::V4(address))
            .execute();
        let what = format!("remove the address {address}");
        while let Some(message) = found.try_next().await.map_err(failed(what.clone()))? {
            let same = message
                .attributes
                .iter()
                .any(|a| matches!(a, AddressAttribute::Local(IpAddr::V4(a)) if *a == address));
            if same && message.header.prefix_len == 32 {
                self.handle.address().del(message).execute().await.map_err(failed(what.clone()))?;
            }
        }
        Ok(())
    }

    /// Lays a cable from the bridge into the network namespace of `pid`, where it is `eth0`.
    pub(crate) async fn plug(&self, pid: i32, address: Ipv4Addr) -> Result<(), Error> {
        let what = format!("connect a sandbox at {address}");
        let taken = self.cables.lock().is_ok_and(|cables| cables.contains_key(&address));
        if taken {
            return Err(Error::Network {
                what,
                source: io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another sandbox has this address",
                ),
            });
        }
        let [_, b, c, d] = address.octets();
        let name = format!("v{b}.{c}.{d}");
        // The address decides the hardware address, so that a neighbour's ARP entry stays right
        // when an address moves to a new sandbox.
        let mac = [0x02, 0x01, 10, b, c, d];
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .address(mac.to_vec())
            .setns_by_pid(pid.cast_unsigned())
            .build();
        self.handle
            .link()
            .add(
                LinkVeth::new(&name, "eth0")
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                    .controller(self.index)
                    .up()
                    .build(),
            )
            .execute()
            .await
            .map_err(failed(what))?;
        let index = index_of(&self.handle, &name).await?;
        if let Ok(mut cables) = self.cables.lock() {
            cables.insert(address, (pid, index));
        }
        Ok(())
    }

    /// Removes the cable. The kernel does so too when it takes the sandbox's namespace apart, but
    /// some time later: the address could not be used again at once.
    pub(crate) async fn unplug(&self, pid: i32, address: Ipv4Addr) {
        let index = self.cables.lock().ok().and_then(|mut cables| {
            // A sandbox that was refused because another has the address must not unplug that one.
            cables.get(&address).is_some_and(|(owner, _)| *owner == pid).then_some(())?;
            cables.remove(&address)
        });
        if let Some((_, index)) = index {
            // Already gone if the kernel was faster.
            let _ = self.handle.link().del(index).execute().await;
        }
    }
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, Error> {
    let what = format!("find the interface {name}");
    let mut links = handle.link().get().match_name(name).execute();
    while let Some(link) = links.try_next().await.map_err(failed(what.clone()))? {
        let same =
            link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(n) if n == name));
        if same {
            return Ok(link.header.index);
        }
    }
    Err(Error::Network { what, source: io::ErrorKind::NotFound.into() })
}

fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let what = what.into();
    move |error| Error::Network {
        what,
        source: match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        },
    }
}
