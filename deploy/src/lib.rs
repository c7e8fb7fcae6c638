//! `ferrite`: brings a cluster up on this machine, keeps its daemons running, and takes it down without a trace.
//!
//! What it keeps true: [`cluster::Cluster`] says what there shall be; everything else (certificates, configuration, the list of
//! daemons) is computed from it by plain functions and written only where it differs, so a second `up` changes nothing.
//! Whatever is created on the machine is either recognisable as ours or noted in the [`ledger`], so that `down` finds it again
//! and touches nothing else.
//!
//! Start reading at [`steps::STAGES`] for `up`, [`supervise`] for what keeps daemons running, [`down`] for the way back.

pub mod certs;
pub mod cgroups;
pub mod cluster;
pub mod command;
pub mod daemons;
pub mod down;
pub mod files;
pub mod images;
pub mod ledger;
pub mod manager;
pub mod measure;
pub mod mounts;
pub mod paths;
pub mod pki;
pub mod process;
pub mod status;
pub mod steps;
pub mod supervise;
pub mod up;
pub mod wait;
