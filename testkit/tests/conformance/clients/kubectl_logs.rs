//! `kubectl logs` in each of its forms.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::super::framework::{Behaviour, Framework, POD, test};
use super::versions;

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("clients: kubectl reads logs: tail, since, timestamps, limit, previous, followed", test!(logs))];

async fn logs(f: Framework) -> anyhow::Result<()> {
    // It says what it is told through a file, and ends when told so; then it starts again.
    let script = "echo one; echo two >&2; printf three; echo; touch /tmp/say; tail -f /tmp/say & said=$!; while [ ! -e /tmp/end ]; do sleep 0.1; done; kill $said; echo last";
    let mut pod = Framework::script("talks", script);
    pod["spec"]["restartPolicy"] = json!("Always");
    let mut other = pod["spec"]["containers"][0].clone();
    other["name"] = json!("other");
    other["command"] = json!(["sh", "-c", "echo of the other; sleep 100000"]);
    pod["spec"]["containers"].as_array_mut().context("containers")?.push(other);
    f.create_pod(&pod).await;
    f.until_ready("talks").await;
    for (turn, version) in versions::all().await?.into_iter().enumerate() {
        let k = || version.on(&f);
        f.until("the log to be written", POD, || async {
            k().ok(&["logs", "talks", "-c", "main"]).await.ok().filter(|t| t.lines().count() == 3).map(|_| ())
        })
        .await;
        let all = k().ok(&["logs", "talks", "-c", "main"]).await?;
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable(); // two streams have no order between them
        assert_eq!(lines, ["one", "three", "two"], "{all}");
        assert_eq!(k().ok(&["logs", "talks", "-c", "main", "--tail=1"]).await?.lines().count(), 1);
        assert_eq!(k().ok(&["logs", "talks", "-c", "main", "--tail=0"]).await?, "");
        assert_eq!(k().ok(&["logs", "talks", "-c", "main", "--limit-bytes=5"]).await?.len(), 5);
        assert_eq!(k().ok(&["logs", "talks", "-c", "main", "--since-time=2099-01-01T00:00:00Z"]).await?, "");
        assert_eq!(k().ok(&["logs", "talks", "-c", "main", "--since=1h"]).await?, all);
        let stamped = k().ok(&["logs", "talks", "-c", "main", "--timestamps", "--tail=1"]).await?;
        let stamp = stamped.split(' ').next().unwrap_or("");
        assert!(stamp.len() == "2026-01-01T00:00:00.000000000Z".len() && stamp.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
        let both = k().ok(&["logs", "talks", "--all-containers", "--prefix"]).await?;
        assert!(both.contains("[pod/talks/other] of the other"), "{both}");
        assert!(k().ok(&["logs", "-l", "name=talks", "-c", "other"]).await?.contains("of the other"));
        let refused = k().fails(&["logs", "talks", "-c", "none"]).await?;
        assert!(refused.contains("container none is not valid for pod talks"), "{refused}");
        if turn == 0 {
            let refused = k().fails(&["logs", "talks", "-c", "main", "--previous"]).await?;
            let expected = "Error from server (BadRequest): previous terminated container \"main\" in pod \"talks\" not found\n";
            assert_eq!(refused, expected);
        }

        let mut following = k().command(&["logs", "-f", "talks", "-c", "main", "--tail=1"]).stdout(Stdio::piped()).spawn()?;
        let mut out = following.stdout.take().context("kubectl's output")?;
        let word = format!("said-{turn}");
        k().ok(&["exec", "talks", "-c", "main", "--", "sh", "-c", &format!("echo {word} >>/tmp/say")]).await?;
        let mut seen = String::new();
        let mut until = async |wanted: &str| {
            let mut block = [0; 1024];
            while !seen.contains(wanted) {
                let read = tokio::time::timeout(Duration::from_secs(30), out.read(&mut block)).await;
                let length = read.with_context(|| format!("{wanted:?} does not come after {seen:?}"))??;
                anyhow::ensure!(length > 0, "the log ended at {seen:?}");
                seen += &String::from_utf8_lossy(&block[..length]);
            }
            anyhow::Ok(())
        };
        until(&word).await?;
        // When the container ends, the log does, and kubectl with it.
        k().ok(&["exec", "talks", "-c", "main", "--", "touch", "/tmp/end"]).await?;
        until("last").await?;
        let ended = tokio::time::timeout(Duration::from_secs(30), following.wait()).await.context("kubectl logs -f ends")??;
        assert!(ended.success());
        f.until_it(&f.core("pods/talks"), "to be started again", POD, |pod| {
            let statuses = pod["status"]["containerStatuses"].as_array();
            statuses.is_some_and(|all| all.iter().any(|s| s["name"] == "main" && s["restartCount"] == turn + 1 && s["ready"] == true))
        })
        .await;
        let before = k().ok(&["logs", "talks", "-c", "main", "--previous"]).await?;
        assert!(before.ends_with("last\n") && before.contains(&word), "{before}");
    }
    Ok(())
}
