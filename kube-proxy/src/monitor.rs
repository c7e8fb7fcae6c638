//! Notices when somebody else touches the table, and when addresses of this node come and go.
//!
//! The kernel announces each change of its rules to those who listen, with the number of the socket that made it. A
//! message that names our table and comes from a socket that is not ours is a reason to look; so is having missed some.

use std::future::Future;
use std::io;
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::netlink::{NFTABLES, Reader, split};
use crate::ruleset::TABLE;
use crate::sink::OwnSockets;

/// `NFNLGRP_NFTABLES`.
const RULES: u32 = 7;
/// `RTNLGRP_IPV4_IFADDR`.
const ADDRESSES: u32 = 5;
/// Every message about tables and what is in them has the table's name as attribute 1 (`NFTA_*_TABLE`, `NFTA_TABLE_NAME`).
const TABLE_NAME: u16 = 1;
/// Announcements that may wait, in bytes: one for each element that we move ourselves.
const BUFFER: u32 = 8 << 20;
/// How long to wait after an error that should not be.
const PAUSE: Duration = Duration::from_secs(1);

/// Puts a token into `touched` when somebody else may have changed the table.
///
/// # Errors
/// The socket could not be opened.
pub fn rules(own: OwnSockets, touched: mpsc::Sender<()>, stop: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let socket = open(NETLINK_NETFILTER, RULES)?;
    Ok(listen(socket, move |bytes| is_foreign(bytes, &own), touched, stop))
}

/// Puts a token into `touched` when an address of this node came or went.
///
/// # Errors
/// The socket could not be opened.
pub fn addresses(touched: mpsc::Sender<()>, stop: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let socket = open(NETLINK_ROUTE, ADDRESSES)?;
    Ok(listen(socket, |_| true, touched, stop))
}

fn open(protocol: isize, group: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(group)?;
    socket.socket_mut().set_rx_buf_sz(BUFFER)?;
    Ok(socket)
}

async fn listen(socket: TokioSocket, concerns: impl Fn(&[u8]) -> bool, touched: mpsc::Sender<()>, stop: CancellationToken) {
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from_full() => received,
        };
        let look = match &received {
            Ok((bytes, _)) => concerns(bytes),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => true,
            Err(error) => {
                tracing::warn!(%error, "listening for changes in the kernel");
                tokio::time::sleep(PAUSE).await;
                true
            }
        };
        if look {
            // A token that waits already says it all.
            let _ = touched.try_send(());
        }
    }
}

fn is_foreign(bytes: &[u8], own: &OwnSockets) -> bool {
    split(bytes)
        .filter(|m| (m.kind >> 8) == u16::from(NFTABLES) && !own.contains(m.port))
        .any(|m| Reader(m.body).text(TABLE_NAME) == Some(TABLE))
}
