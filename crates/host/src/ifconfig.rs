//! The sandbox's own interfaces, by the classic ioctls: init has no async runtime, and a netlink
//! library for four calls would be most of its size.

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// A socket to configure the current network namespace with.
pub(crate) struct Ifconfig(OwnedFd);

impl Ifconfig {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self(socket))
    }

    /// Sets the interface up.
    pub(crate) fn up(&self, name: &CStr) -> io::Result<()> {
        let mut request = request(name)?;
        // SAFETY: both calls take a pointer to an `ifreq` that lives across them; SIOCGIFFLAGS
        // fills the member that is read and written next.
        unsafe {
            self.call(libc::SIOCGIFFLAGS, (&raw mut request).cast())?;
            #[allow(clippy::cast_possible_truncation, reason = "IFF_UP and IFF_RUNNING fit")]
            {
                request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
            }
            self.call(libc::SIOCSIFFLAGS, (&raw mut request).cast())
        }
    }

    /// Gives the interface its address in a /24.
    pub(crate) fn address(&self, name: &CStr, address: Ipv4Addr) -> io::Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_addr = sockaddr(address);
        // SAFETY: a pointer to an `ifreq` whose address member is set.
        unsafe { self.call(libc::SIOCSIFADDR, (&raw mut request).cast())? };
        request.ifr_ifru.ifru_netmask = sockaddr(Ipv4Addr::new(255, 255, 255, 0));
        // SAFETY: as above, for the mask.
        unsafe { self.call(libc::SIOCSIFNETMASK, (&raw mut request).cast()) }
    }

    /// Adds the default route.
    pub(crate) fn default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: `rtentry` is plain data for which all zeroes is a valid value.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = sockaddr(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        // SAFETY: a pointer to an `rtentry` that lives across the call.
        unsafe { self.call(libc::SIOCADDRT, (&raw mut route).cast()) }
    }

    /// # Safety
    /// `argument` must point to what `request` expects.
    unsafe fn call(&self, request: libc::Ioctl, argument: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: the descriptor is open; the argument is the caller's promise.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn request(name: &CStr) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(u8::cast_signed);
    #[allow(clippy::cast_possible_truncation, reason = "AF_INET is 2")]
    // A `sockaddr_in` seen as bytes: port (2), address (4), zeroes (8).
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}
