//! What kubectl changes: images, labels, annotations, and Services for what is there.

use serde_json::{Value, json};

use super::create_primary;
use crate::framework::{BUSYBOX, Framework, NGINX, POD};

const POD_NAME: &str = "e2e-test-httpd-pod";

/// `kubectl run` of the web server.
async fn run_pod(f: &Framework, more: &[&str]) -> anyhow::Result<()> {
    let image = format!("--image={NGINX}");
    f.kubectl().ok(&[&["run", POD_NAME, &image, "--image-pull-policy=IfNotPresent"], more].concat()).await?;
    Ok(())
}

/// The images of a pod's containers.
fn images(pod: &Value) -> Vec<&str> {
    pod["spec"]["containers"].as_array().expect("containers").iter().filter_map(|c| c["image"].as_str()).collect()
}

async fn pod(f: &Framework) -> Value {
    f.wire.get(&f.core(&format!("pods/{POD_NAME}"))).await.expect(200)
}

pub async fn run(f: Framework) -> anyhow::Result<()> {
    run_pod(&f, &["--restart=Never"]).await?;
    let made = pod(&f).await;
    assert_eq!((images(&made), &made["spec"]["restartPolicy"]), (vec![NGINX], &json!("Never")));
    f.until_ready(POD_NAME).await;
    f.kubectl().ok(&["delete", "pods", POD_NAME]).await?;
    Ok(())
}

pub async fn dry_run(f: Framework) -> anyhow::Result<()> {
    run_pod(&f, &["--labels=run=e2e-test-httpd-pod"]).await?;
    let kubectl = f.kubectl();
    let patch = format!(r#"{{"spec":{{"containers":[{{"name": "{POD_NAME}","image": "{BUSYBOX}"}}]}}}}"#);
    let said = kubectl.ok(&["patch", "pod", POD_NAME, "-p", &patch, "--dry-run=server"]).await?;
    // Some versions add that it was dry.
    assert!(said.starts_with(&format!("pod/{POD_NAME} patched")), "{said}");
    assert_eq!(images(&pod(&f).await), [NGINX], "nothing is changed");
    kubectl.ok(&["delete", "pods", POD_NAME]).await?;
    Ok(())
}

pub async fn replace(f: Framework) -> anyhow::Result<()> {
    run_pod(&f, &["--labels=run=e2e-test-httpd-pod"]).await?;
    f.until_ready(POD_NAME).await;
    let text = f.kubectl().ok(&["get", "pod", POD_NAME, "-o", "json"]).await?;
    assert!(text.contains(&format!(r#""image": "{NGINX}""#)), "{text}");
    let replaced = text.replacen(&format!(r#""image": "{NGINX}""#), &format!(r#""image": "{BUSYBOX}""#), 1);
    let said = f.kubectl().stdin(replaced).ok(&["replace", "-f", "-"]).await?;
    assert_eq!(said, format!("pod/{POD_NAME} replaced\n"));
    assert_eq!(images(&pod(&f).await), [BUSYBOX]);
    // And the container is run from it.
    let busy = |pod: &Value| pod["status"]["containerStatuses"][0]["image"].as_str().is_some_and(|i| i.contains(BUSYBOX));
    f.until_it(&f.core(&format!("pods/{POD_NAME}")), "to run the new image", POD, busy).await;
    f.kubectl().ok(&["delete", "pods", POD_NAME]).await?;
    Ok(())
}

pub async fn label(f: Framework) -> anyhow::Result<()> {
    let kubectl = f.kubectl();
    let mut pod = Framework::idle_template(&json!({"name": "pause"}));
    pod["metadata"]["name"] = json!("pause");
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    f.kubectl().stdin(pod.to_string()).ok(&["create", "-f", "-"]).await?;
    f.until_ready("pause").await;
    assert_eq!(kubectl.ok(&["label", "pods", "pause", "testing-label=testing-label-value"]).await?, "pod/pause labeled\n");
    let shown = kubectl.ok(&["get", "pod", "pause", "-L", "testing-label"]).await?;
    assert!(shown.lines().any(|l| l.starts_with("pause ") && l.ends_with("testing-label-value")), "{shown}");
    assert_eq!(kubectl.ok(&["get", "pods", "-l", "testing-label=testing-label-value", "-o", "name"]).await?, "pod/pause\n");
    assert_eq!(kubectl.ok(&["label", "pods", "pause", "testing-label-"]).await?, "pod/pause unlabeled\n");
    let shown = kubectl.ok(&["get", "pod", "pause", "-L", "testing-label"]).await?;
    assert!(!shown.contains("testing-label-value"), "{shown}");
    assert_eq!(kubectl.ok(&["get", "pods", "-l", "testing-label", "-o", "name"]).await?, "");
    Ok(())
}

pub async fn patch(f: Framework) -> anyhow::Result<()> {
    create_primary(&f).await?;
    let selected = f.core("pods?labelSelector=app%3Dagnhost");
    for pod in f.list(&selected).await {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        f.kubectl().ok(&["patch", "pod", name, "-p", r#"{"metadata":{"annotations":{"x":"y"}}}"#]).await?;
    }
    let pods = f.list(&selected).await;
    assert!(!pods.is_empty() && pods.iter().all(|p| p["metadata"]["annotations"]["x"] == "y"), "{pods:?}");
    Ok(())
}

pub async fn diff(f: Framework) -> anyhow::Result<()> {
    let mut deployment = Framework::workload("Deployment", "httpd-deployment", 1, &json!({"app": "httpd"}));
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(NGINX);
    f.kubectl().stdin(deployment.to_string()).ok(&["create", "-f", "-"]).await?;
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(BUSYBOX);
    let found = f.kubectl().stdin(deployment.to_string()).run(&["diff", "-f", "-"]).await?;
    for (sign, image) in [('-', NGINX), ('+', BUSYBOX)] {
        let line = |l: &str| l.starts_with(sign) && l.ends_with(&format!("image: {image}"));
        assert!(!found.success && found.out.lines().any(line), "no {sign} of {image} in {}{}", found.out, found.err);
    }
    f.kubectl().stdin(deployment.to_string()).ok(&["delete", "-f", "-"]).await?;
    Ok(())
}

/// The Service has one port of this number, for the container's; and the one pod behind it.
async fn exposes(f: &Framework, name: &str, port: u16) {
    let service = f.wire.get(&f.core(&format!("services/{name}"))).await.expect(200);
    let ports: Vec<(&Value, &Value)> =
        service["spec"]["ports"].as_array().expect("ports").iter().map(|p| (&p["port"], &p["targetPort"])).collect();
    assert_eq!(ports, [(&json!(port), &json!(6379))]);
    f.until_it(&f.core(&format!("endpoints/{name}")), "to have the pod", POD, |endpoints| {
        let subsets = endpoints["subsets"].as_array().cloned().unwrap_or_default();
        subsets.len() == 1
            && subsets[0]["addresses"].as_array().is_some_and(|a| a.len() == 1)
            && subsets[0]["ports"].as_array().is_some_and(|p| p.len() == 1 && p[0]["port"] == 6379)
    })
    .await;
}

pub async fn expose(f: Framework) -> anyhow::Result<()> {
    create_primary(&f).await?;
    let kubectl = f.kubectl();
    kubectl.ok(&["expose", "rc", "agnhost-primary", "--name=rm2", "--port=1234", "--target-port=6379"]).await?;
    exposes(&f, "rm2", 1234).await;
    kubectl.ok(&["expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379"]).await?;
    exposes(&f, "rm3", 2345).await;
    // And it answers there: the server has no files, and says so.
    let script =
        "for at in rm2:1234 rm3:2345; do until timeout 5 wget -S -O- http://$at/ 2>&1 | grep -q ' 404 '; do sleep 1; done; done; echo both";
    assert_eq!(f.output_of(&Framework::script("client", script)).await, "both\n");
    Ok(())
}
