//! `kubectl logs` and what it can leave out.

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs", test!(filtered))];

/// A hundred lines in twenty seconds, as upstream's generator writes them, and then nothing.
const GENERATOR: &str =
    "i=0; while [ $i -lt 100 ]; do echo \"$i GET /api/v1/namespaces/kube-system/pods/x 200\"; i=$((i+1)); usleep 200000; done";

async fn filtered(f: Framework) -> anyhow::Result<()> {
    let kubectl = f.kubectl();
    let image = format!("--image={}", crate::framework::BUSYBOX);
    kubectl
        .ok(&["run", "logs-generator", &image, "--image-pull-policy=IfNotPresent", "--restart=Never", "--", "sh", "-c", GENERATOR])
        .await?;
    let logs = async |more: &[&str]| kubectl.ok(&[&["logs", "logs-generator", "logs-generator"], more].concat()).await;
    f.until("the first line", crate::framework::POD, || async {
        let done = kubectl.run(&["logs", "logs-generator", "logs-generator"]).await.expect("kubectl runs");
        (done.success && done.out.contains("/api/v1/namespaces/kube-system")).then_some(())
    })
    .await;

    let last = logs(&["--tail=1"]).await?;
    assert!(last.ends_with('\n') && last.lines().count() == 1, "{last:?}");
    assert!(logs(&[]).await?.contains(&last), "a line of the log");
    assert_eq!(logs(&["--limit-bytes=1"]).await?.len(), 1);
    let timed = logs(&["--tail=1", "--timestamps"]).await?;
    assert_eq!(timed.lines().count(), 1, "{timed:?}");
    let (time, rest) = timed.split_once(' ').expect("a time and a line");
    assert!(time.parse::<jiff::Timestamp>().is_ok() && rest.contains("GET /api"), "{timed:?}");
    f.until("lines older than a second", SOON, || async {
        let recent = logs(&["--since=1s"]).await.expect("logs").lines().count();
        let older = logs(&["--since=24h"]).await.expect("logs").lines().count();
        (recent < older).then_some(())
    })
    .await;
    kubectl.ok(&["delete", "pod", "logs-generator", "--now"]).await?;
    Ok(())
}
