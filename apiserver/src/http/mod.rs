//! From bytes on a connection to a verb and back. Start at [`serve`].

pub mod decode;
pub mod discovery;
pub mod limits;
pub mod metrics;
pub mod negotiate;
pub mod query;
pub mod render;
pub mod request_info;
pub mod respond;
pub mod serve;
