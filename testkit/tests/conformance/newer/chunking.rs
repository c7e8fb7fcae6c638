//! Lists in pages.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "newer: [sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls",
    test!(chunks),
)];

const TOTAL: usize = 400;

async fn chunks(f: Framework) -> anyhow::Result<()> {
    let path = f.core("podtemplates");
    let made = futures::future::join_all((0..TOTAL).map(|i| {
        let template = json!({
            "metadata": {"name": format!("template-{i:04}")},
            "template": {"spec": {"containers": [{"name": "test", "image": "test2"}]}},
        });
        let (f, path) = (f.clone(), path.clone());
        async move { f.wire.post(&path, &template).await.code }
    }))
    .await;
    assert!(made.iter().all(|code| *code == 201), "{made:?}");
    for limit in [17, 100, 333, TOTAL] {
        let (mut found, mut token, mut version) = (vec![], String::new(), Value::Null);
        loop {
            let list = f.wire.get(&format!("{path}?limit={limit}&continue={token}")).await.expect(200);
            let items = list["items"].as_array().expect("a list");
            assert!(items.len() <= limit, "{} of at most {limit}", items.len());
            found.extend(items.iter().map(|i| i["metadata"]["name"].as_str().expect("a name").to_owned()));
            let meta = &list["metadata"];
            assert!(version.is_null() || meta["resourceVersion"] == version, "all pages are of one version");
            version = meta["resourceVersion"].clone();
            let Some(next) = meta["continue"].as_str().filter(|t| !t.is_empty()) else {
                assert_eq!(meta.get("remainingItemCount"), None);
                break;
            };
            assert_eq!(meta["remainingItemCount"], TOTAL - found.len());
            token = next.to_owned();
        }
        assert_eq!(found, (0..TOTAL).map(|i| format!("template-{i:04}")).collect::<Vec<_>>());
    }
    assert_eq!(f.list(&path).await.len(), TOTAL, "without a limit everything");
    Ok(())
}
