//! `extension-apiserver-authentication` in kube-system: what aggregated servers need to know whom to believe.

use std::path::Path;
use std::sync::Arc;

use api::status::Status;
use serde_json::{Map, Value, json};

use super::{change, ensure};
use crate::flags::RequestHeader;
use crate::server::Server;

/// Writes it, or brings it up to date.
pub async fn publish(server: &Arc<Server>) -> Result<(), Status> {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|e| Status::internal(format!("reading the authority {}: {e}", path.display())));
    let clients = read(&server.config.client_ca)?;
    let proxies = server.config.request_header.as_ref().map(|how| Ok::<_, Status>((how, read(&how.ca)?))).transpose()?;
    let data = data(&clients, proxies.as_ref().map(|(how, ca)| (*how, ca.as_str())));
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    });
    match ensure(server, object.clone()).await? {
        Some(found) if data.iter().any(|(key, value)| found["data"].get(key) != Some(value)) => {
            let merged = |old: &Value| {
                let mut new = old.clone();
                for (key, value) in &data {
                    new["data"][key] = value.clone();
                }
                new
            };
            change(server, &object, &merged).await
        }
        _ => Ok(()),
    }
}

/// The content: authorities as PEM, lists as JSON. Pure.
fn data(clients: &str, proxies: Option<(&RequestHeader, &str)>) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("client-ca-file".to_owned(), clients.into());
    if let Some((how, ca)) = proxies {
        data.insert("requestheader-client-ca-file".to_owned(), ca.into());
        for (key, list) in [
            ("requestheader-allowed-names", &how.allowed_names),
            ("requestheader-username-headers", &how.username),
            ("requestheader-uid-headers", &how.uid),
            ("requestheader-group-headers", &how.group),
            ("requestheader-extra-headers-prefix", &how.extra_prefix),
        ] {
            data.insert(key.to_owned(), json!(list).to_string().into());
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_json_in_strings() {
        let own = |s: &str| vec![s.to_owned()];
        let how = RequestHeader {
            ca: "".into(),
            allowed_names: own("front-proxy-client"),
            username: own("X-Remote-User"),
            uid: vec![],
            group: own("X-Remote-Group"),
            extra_prefix: own("X-Remote-Extra-"),
        };
        let data = data("CA", Some((&how, "FP")));
        assert_eq!((&data["client-ca-file"], &data["requestheader-client-ca-file"]), (&json!("CA"), &json!("FP")));
        assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
        assert_eq!(data["requestheader-uid-headers"], "[]");
    }
}
