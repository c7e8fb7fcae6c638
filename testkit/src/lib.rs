//! A cluster for tests: real etcd, real apiserver in-process, nodes, faults. Never a dependency of a daemon.
//!
//! Start at [`ApiServer::start`]. Everything is stopped and removed when the handle goes.

pub mod apiserver;
pub mod etcd;
pub mod pki;
pub mod wait;
pub mod wire;

pub use apiserver::ApiServer;
pub use etcd::EtcdProcess;
pub use pki::Pki;
pub use wait::eventually;
pub use wire::{Answer, Watching, Wire};
