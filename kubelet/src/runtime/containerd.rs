//! The CRI over gRPC on a unix socket.
