//! The socket between edge and core: requests to dial out one way, connected sockets the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A host name is at most 253 bytes; an answer carries an error's text.
const MAX: usize = 2048;

/// Core asks edge to connect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dial {
    pub(crate) id: u64,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Edge's answer; on success the socket comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dialled {
    pub(crate) id: u64,
    pub(crate) error: Option<DialError>,
}

/// An `io::Error` on its way through a socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DialError {
    errno: Option<i32>,
    message: String,
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        let message = error.to_string().chars().take(256).collect();
        Self { errno: error.raw_os_error(), message }
    }
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        error.errno.map_or_else(|| io::Error::other(error.message), io::Error::from_raw_os_error)
    }
}

/// A pair of connected packet sockets: each message arrives whole or not at all.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message, with a socket if there is one.
pub(crate) fn send(
    link: RawFd,
    message: &impl Serialize,
    socket: Option<&OwnedFd>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let fds: Vec<RawFd> = socket.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(link, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message; `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(
    link: RawFd,
    flags: MsgFlags,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = [0_u8; MAX];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let (length, fd) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(link, &mut slices, Some(&mut space), flags)?;
        let mut fd = None;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                for raw in received {
                    // SAFETY: the kernel just installed this descriptor for us alone.
                    fd = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        (message.bytes, fd)
    };
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&bytes[..length])?;
    Ok(Some((value, fd)))
}
