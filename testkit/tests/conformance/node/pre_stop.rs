//! Hooks of a pod that is told to go.

use serde_json::json;

use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new("[sig-node] PreStop should call prestop when killing a pod", test!(called))];

async fn called(f: Framework) -> anyhow::Result<()> {
    let answer = r"printf 'HTTP/1.0 200 OK\r\n\r\n'";
    let server = Framework::script("server", &format!("{answer} | nc -l -p 8080; exec sleep 3600"));
    f.create_pod(&server).await;
    let ip = f.until_ready("server").await["status"]["podIP"].as_str().expect("an address").to_owned();
    let mut tester = Framework::script("tester", "exec sleep 3600");
    tester["spec"]["terminationGracePeriodSeconds"] = json!(10);
    let hook = format!("wget -q -O- http://{ip}:8080/write-prestop");
    tester["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", hook]}}});
    f.create_pod(&tester).await;
    f.until_ready("tester").await;
    assert_eq!(f.logs("server", "main").await, "", "nothing was said before");
    f.wire.delete(&f.core("pods/tester")).await.expect(200);
    f.until("the hook to be heard of", POD, || async { f.logs("server", "main").await.contains("GET /write-prestop ").then_some(()) })
        .await;
    f.until_gone(&f.core("pods/tester"), POD).await;
    Ok(())
}
