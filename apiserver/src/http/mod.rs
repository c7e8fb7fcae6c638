//! From bytes on a connection to a verb and back. Start at [`serve`].

pub mod decode;
pub mod discovery;
pub mod metrics;
pub mod negotiate;
pub mod pieces;
pub mod pretty;
pub mod query;
pub mod render;
pub mod request_info;
pub mod respond;
pub mod serve;
