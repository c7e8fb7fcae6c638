//! A controller of a few pods that serve something, made, scaled and stopped with kubectl.

use serde_json::{Value, json};

use crate::framework::{Framework, NGINX, POD};

const NAME: &str = "update-demo-nautilus";

fn demo() -> Value {
    let labels = json!({"name": "update-demo", "version": "nautilus"});
    json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": NAME, "labels": {"name": "update-demo"}},
        "spec": {"replicas": 2, "selector": labels, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{
                "name": "update-demo", "image": NGINX, "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 80}],
            }]},
        }},
    })
}

/// Waits until kubectl shows so many pods, each running the image, and each serves its page.
async fn runs(f: &Framework, replicas: usize) -> anyhow::Result<()> {
    let kubectl = f.kubectl();
    let names = "--template={{range .items}}{{.metadata.name}} {{end}}";
    let running = r#"--template={{if (exists . "status" "containerStatuses")}}{{range .status.containerStatuses}}{{if (and (eq .name "update-demo") (exists . "state" "running"))}}true{{end}}{{end}}{{end}}"#;
    let image = r#"--template={{if (exists . "spec" "containers")}}{{range .spec.containers}}{{if eq .name "update-demo"}}{{.image}}{{end}}{{end}}{{end}}"#;
    f.until(&format!("{replicas} pods that run and serve"), POD, || async {
        let pods = kubectl.ok(&["get", "pods", "-o", "template", names, "-l", "name=update-demo"]).await.expect("pods");
        let pods: Vec<&str> = pods.split_whitespace().collect();
        if pods.len() != replicas {
            return None;
        }
        for pod in pods {
            // A pod that is on its way out may be gone by now.
            let state = kubectl.run(&["get", "pods", pod, "-o", "template", running]).await.expect("kubectl runs");
            if state.out != "true" {
                return None;
            }
            let shown = kubectl.run(&["get", "pods", pod, "-o", "template", image]).await.expect("kubectl runs");
            assert_eq!(shown.out, NGINX);
            let page = f.wire.get(&f.core(&format!("pods/{pod}/proxy/"))).await;
            if page.code != 200 || !page.text().contains("Welcome to nginx!") {
                return None;
            }
        }
        Some(())
    })
    .await;
    Ok(())
}

async fn stop(f: &Framework) -> anyhow::Result<()> {
    f.kubectl().stdin(demo().to_string()).ok(&["delete", "--grace-period=0", "--force", "-f", "-"]).await?;
    assert_eq!(f.kubectl().ok(&["get", "rc,svc", "-l", "name=update-demo", "--no-headers"]).await?, "");
    let left = "--template={{ range .items }}{{ if not .metadata.deletionTimestamp }}{{ .metadata.name }}{{ \"\\n\" }}{{ end }}{{ end }}";
    f.until("no pod to be left that nobody deletes", POD, || async {
        f.kubectl().ok(&["get", "pods", "-l", "name=update-demo", "-o", "go-template", left]).await.ok().filter(String::is_empty)
    })
    .await;
    Ok(())
}

pub async fn created_and_stopped(f: Framework) -> anyhow::Result<()> {
    f.kubectl().stdin(demo().to_string()).ok(&["create", "-f", "-"]).await?;
    runs(&f, 2).await?;
    stop(&f).await
}

pub async fn scaled(f: Framework) -> anyhow::Result<()> {
    f.kubectl().stdin(demo().to_string()).ok(&["create", "-f", "-"]).await?;
    runs(&f, 2).await?;
    for replicas in [1, 2] {
        let said = f.kubectl().ok(&["scale", "rc", NAME, &format!("--replicas={replicas}"), "--timeout=5m"]).await?;
        assert_eq!(said, format!("replicationcontroller/{NAME} scaled\n"));
        runs(&f, replicas).await?;
    }
    stop(&f).await
}
