//! A cluster for tests: real etcd, real apiserver in-process, nodes, faults. Never a dependency of a daemon.
//!
//! Start at [`ApiServer::start`]. Everything is stopped and removed when the handle goes.

pub mod apiserver;
pub mod etcd;
pub mod flaky;
pub mod fuzz;
pub mod https;
pub mod pki;
pub mod reviewer;
pub mod wait;
pub mod wire;

pub use apiserver::ApiServer;
pub use etcd::EtcdProcess;
pub use flaky::FlakyDoor;
pub use https::HttpsServer;
pub use pki::Pki;
pub use reviewer::Reviewer;
pub use wait::eventually;
pub use wire::{Answer, Watching, Wire};
