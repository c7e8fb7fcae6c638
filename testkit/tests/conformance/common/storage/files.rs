//! Files that a running container watches: what is in them shows in its log.

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{Framework, POD};

/// A pod `watcher` that writes each time what is in these files now; each volume is mounted at its name.
pub fn watching(files: &[&str], volumes: Value, names: &[&str]) -> Value {
    let looks: Vec<String> = files.iter().map(|file| format!("echo \"{file}: $(cat {file} 2>/dev/null || echo none)\"")).collect();
    let script = format!("while :; do {}; sleep 0.5; done", looks.join("; "));
    let mounts: Vec<Value> = names.iter().map(|n| json!({"name": n, "mountPath": format!("/{n}"), "readOnly": true})).collect();
    pod("watcher", &script, json!({"volumes": volumes}), json!({"volumeMounts": mounts}))
}

/// Waits until the watcher has lately seen this.
pub async fn until_log(f: &Framework, seen: &str) {
    let path = f.core("pods/watcher/log?container=main&tailLines=6");
    f.until(&format!("{seen:?} in the log"), POD, || async {
        let answer = f.wire.get(&path).await;
        (answer.code == 200 && answer.text().contains(seen)).then_some(())
    })
    .await;
}
