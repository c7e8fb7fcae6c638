//! Slices of Endpoints that somebody wrote by hand.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete",
    test!(mirrored),
)];

fn subset(ip: &str, port: u16) -> Value {
    json!([{"addresses": [{"ip": ip}], "ports": [{"name": "example", "port": port, "protocol": "TCP"}]}])
}

async fn mirrored(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "example-custom-endpoints";
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"ports": [{"name": "example", "port": 80, "protocol": "TCP"}]},
    });
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": NAME}, "subsets": subset("10.1.2.3", 80)});
    let made = f.wire.post(&f.core("endpoints"), &endpoints).await.expect(201);
    let path = f.core(&format!("endpoints/{NAME}"));
    let slices = f.group("discovery.k8s.io/v1", &format!("endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{NAME}"));
    let until = |ip: &'static str, port: u16| {
        let (f, slices) = (f.clone(), slices.clone());
        async move {
            f.until(&format!("a slice of {ip}"), SOON, || async {
                let found = f.list(&slices).await;
                let slice = (found.len() == 1).then(|| found[0].clone())?;
                (slice["endpoints"][0]["addresses"] == json!([ip]) && slice["ports"][0]["port"] == port).then_some(slice)
            })
            .await
        }
    };
    let slice = until("10.1.2.3", 80).await;
    assert_eq!((slice["endpoints"].as_array().map(Vec::len), slice["ports"].as_array().map(Vec::len)), (Some(1), Some(1)));
    assert_eq!(slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!((&slice["ports"][0]["name"], &slice["addressType"]), (&json!("example"), &json!("IPv4")));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);

    f.update(&path, |endpoints| endpoints["subsets"] = subset("10.2.3.4", 8080)).await;
    until("10.2.3.4", 8080).await;

    f.wire.delete(&path).await.expect(200);
    f.until("the slice to go", SOON, || async { f.list(&slices).await.is_empty().then_some(()) }).await;
    assert_eq!(f.wire.get(&path).await.code, 404);
    Ok(())
}
