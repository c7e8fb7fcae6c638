//! The sockets that questions come to.
//!
//! Each address has its own: a socket for all addresses would answer from another address than was asked. Several UDP
//! sockets share an address, so that several threads can read at once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::Server;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::handler::Handler;

/// UDP sockets for an address: one for each thread that runs tasks.
const UDP_SOCKETS: usize = 2;
/// Questions that may wait in a UDP socket, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// A TCP connection without questions is closed after this time (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait to be sent on a TCP connection.
const ANSWERS: usize = 32;

/// Opens the sockets and answers what comes.
///
/// # Errors
/// An address is taken, is not this machine's, or its port is not ours to use.
pub fn serve(addresses: &[IpAddr], port: u16, handler: Handler) -> io::Result<Server<Handler>> {
    let mut server = Server::new(handler);
    for addr in addresses {
        let addr = SocketAddr::new(*addr, port);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{addr}: {error}"));
        for _ in 0..UDP_SOCKETS {
            server.register_socket(udp(addr).map_err(named)?);
        }
        server.register_listener(tcp(addr).map_err(named)?, IDLE, ANSWERS);
    }
    Ok(server)
}

fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

fn tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
