//! The gateway as its clients and its instances see it. Everything is on loopback.

#![expect(clippy::format_collect, clippy::format_push_string, reason = "requests are short")]

mod access;
mod drain;
mod framing;
mod own_names;
mod proxy;
mod resend;
mod site;
mod support;
mod swap;
mod tls;
mod websocket;
