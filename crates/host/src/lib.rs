//! The only part that touches the machine: the edge and core processes, namespaces, sandboxes,
//! addresses, passed sockets. It knows nothing of Azure. `unsafe` lives here alone, each use with
//! its reason.
#![allow(unsafe_code)]
