//! kubectl inside pods: exec, attach, cp, port-forward, debug, proxy. Newer versions speak WebSocket first, older ones SPDY; none may fall back.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::super::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};
use super::versions::{self, Version};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("clients: kubectl exec carries input, output, exit codes and a terminal", test!(exec)),
    Behaviour::new("clients: kubectl exec that is killed takes its command with it", test!(killed)),
    Behaviour::new("clients: kubectl cp copies both ways", test!(copy)),
    Behaviour::new("clients: kubectl attach and run speak with a container's first process", test!(attach)),
    Behaviour::new("clients: kubectl port-forward reaches pods, services and deployments", test!(port_forward)),
    Behaviour::new("clients: kubectl debug adds a container to a running pod", test!(debug)),
    Behaviour::new("clients: kubectl proxy reaches the API, pods and services", test!(proxy)),
];

/// What kubectl says when a newer protocol was refused and it tries an older one.
const FALLBACK: &str = "fallback";

async fn exec(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    for version in versions::all().await? {
        let k = || version.on(&f);
        let said = k().run(&["exec", "served", "-v=4", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await?;
        assert!(!said.success && said.out == "out\n", "{}{}", said.out, said.err);
        assert!(said.err.lines().any(|l| l == "err") && said.err.contains("command terminated with exit code 7"), "{}", said.err);
        assert!(!said.err.to_lowercase().contains(FALLBACK), "{}", said.err);
        // The end of the input is seen: `cat` ends by itself.
        let long = "line of some length\n".repeat(50_000);
        let echoed = k().stdin(&*long).ok(&["exec", "-i", "served", "--", "cat"]).await?;
        assert!(echoed == long, "{} bytes came back of {}", echoed.len(), long.len());
        let counted = k().stdin(&*long).ok(&["exec", "-i", "served", "--", "wc", "-c"]).await?;
        assert_eq!(counted.trim(), long.len().to_string());
        // A command that ends before its input does. The input is short: containerd 1.6 may wait for ever for the end of a long one.
        let first = k().stdin("line of some length\n").ok(&["exec", "-i", "served", "--", "head", "-c", "4"]).await?;
        assert_eq!(first, "line");
        let missing = k().fails(&["exec", "served", "--", "no-such-program"]).await?;
        assert!(missing.contains("no-such-program") && missing.contains("executable file not found"), "{missing}");
        assert!(k().fails(&["exec", "none", "--", "true"]).await?.contains("pods \"none\" not found"));
        assert!(k().fails(&["exec", "served", "-c", "none", "--", "true"]).await?.contains("container none is not valid for pod served"));
        let typed = terminal(&f, &version, "exec -it served -- sh", "tty; stty size; exit 3\n").await?;
        assert!(typed.contains("/dev/pts/") && typed.contains("33 99"), "{typed}");
        assert!(typed.contains("exit code 3"), "{typed}");
        assert!(k().ok(&["exec", "pod/served", "--", "hostname"]).await?.trim() == "served");
    }
    Ok(())
}

/// What kubectl shows in a terminal of 33 lines and 99 columns in which `typed` is typed.
async fn terminal(f: &Framework, version: &Version, arguments: &str, typed: &str) -> anyhow::Result<String> {
    let kubectl = format!(
        "stty rows 33 cols 99; {} --kubeconfig {} -n {} {arguments}",
        version.program.display(),
        f.cluster.kubeconfig.display(),
        f.namespace
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &kubectl, "/dev/null"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().context("script")?;
    let (mut stdin, mut out) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    let conversation = async {
        let (mut shown, mut block) = (vec![], [0; 4096]);
        // Who types before the shell is there has it eaten by the terminal's settings.
        while !shown.contains(&b'#') {
            let length = out.read(&mut block).await?;
            anyhow::ensure!(length > 0, "it ended with {:?}", String::from_utf8_lossy(&shown));
            shown.extend_from_slice(&block[..length]);
        }
        stdin.write_all(typed.as_bytes()).await?;
        out.read_to_end(&mut shown).await?;
        anyhow::Ok(String::from_utf8_lossy(&shown).into_owned())
    };
    let shown = tokio::time::timeout(Duration::from_secs(60), conversation).await.with_context(|| format!("kubectl {arguments}"))?;
    child.wait().await?;
    shown
}

async fn killed(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    for version in versions::all().await? {
        let k = || version.on(&f);
        let processes = || async { k().ok(&["exec", "served", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).await };
        let mut child = k().command(&["exec", "-i", "served", "--", "cat", "/dev/null", "-"]).stdin(Stdio::piped()).spawn()?;
        f.until("the command to run", SOON, || async { processes().await.ok().filter(|p| p.contains("cat /dev/null -")).map(|_| ()) })
            .await;
        child.kill().await?;
        f.until("the command to be gone", SOON, || async { processes().await.ok().filter(|p| !p.contains("cat /dev/null -")).map(|_| ()) })
            .await;
    }
    Ok(())
}

async fn copy(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    for version in versions::all().await? {
        let k = || version.on(&f);
        let dir = std::env::temp_dir().join(format!("{}-{}-cp", f.namespace, version.minor));
        std::fs::create_dir_all(dir.join("in/deep"))?;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(dir.join("in/deep/file"), &bytes)?;
        std::fs::write(dir.join("in/empty"), "")?;
        let (there, back) = (dir.join("in").display().to_string(), dir.join("back").display().to_string());
        let remote = format!("/tmp/v{}", version.minor);
        k().ok(&["cp", &there, &format!("served:{remote}")]).await?;
        assert_eq!(k().ok(&["exec", "served", "--", "wc", "-c", &format!("{remote}/deep/file")]).await?.split(' ').next(), Some("3000000"));
        k().ok(&["cp", &format!("served:{remote}"), &back]).await?;
        assert!(std::fs::read(dir.join("back/deep/file"))? == bytes && std::fs::read(dir.join("back/empty"))?.is_empty());
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

async fn attach(f: Framework) -> anyhow::Result<()> {
    for version in versions::all().await? {
        let k = || version.on(&f);
        let name = format!("listens-{}", version.minor);
        let mut pod = Framework::script(&name, "while read line; do echo got $line; [ \"$line\" != end ] || exit 0; done");
        pod["spec"]["containers"][0]["stdin"] = json!(true);
        f.create_pod(&pod).await;
        f.until_ready(&name).await;
        let mut child =
            k().command(&["attach", "-i", &name]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("stdout")?);
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(b"hello\n").await?;
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut line)).await.context("an answer")??;
        assert_eq!(line, "got hello\n");
        stdin.write_all(b"end\n").await?;
        tokio::time::timeout(Duration::from_secs(30), child.wait()).await.context("attach ends with the process")??;
        drop(stdin);
        assert_eq!(f.until_ended(&name).await["status"]["phase"], "Succeeded");

        let name = format!("once-{}", version.minor);
        let run = [
            "run",
            &name,
            "--image",
            BUSYBOX,
            "--image-pull-policy=IfNotPresent",
            "--restart=Never",
            "--rm",
            "-i",
            "--",
            "sh",
            "-c",
            "cat; exit 0",
        ];
        let said = k().stdin("through\n").ok(&run).await?;
        assert!(said.starts_with("through\n") && said.contains(&format!("pod \"{name}\" deleted")), "{said}");
    }
    Ok(())
}

/// A port-forward that runs, and the local port.
async fn forwarded(f: &Framework, version: &Version, target: &str, ports: &str) -> anyhow::Result<(Child, u16)> {
    let mut child = version.on(f).command(&["port-forward", target, ports]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().context("stdout")?);
    tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut line)).await.with_context(|| format!("forwarding to {target}"))??;
    let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|l| l.split(' ').next()?.parse().ok());
    let Some(port) = port else {
        let mut said = String::new();
        if let Some(mut err) = child.stderr.take() {
            err.read_to_string(&mut said).await?;
        }
        anyhow::bail!("forwarding to {target}: {line}{said}")
    };
    // kubectl must not be held up by what it says to nobody.
    tokio::spawn(async move { while out.read_line(&mut String::new()).await.is_ok_and(|n| n > 0) {} });
    Ok((child, port))
}

async fn page(port: u16) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\nHost: pod\r\n\r\n").await?;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut text)).await.context("the page")??;
    Ok(text)
}

async fn port_forward(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    let mut deployment = Framework::workload("Deployment", "served", 1, &json!({"app": "served"}));
    let pod = Framework::script("x", super::SERVED);
    deployment["spec"]["template"]["spec"] = json!({"terminationGracePeriodSeconds": 0, "containers": pod["spec"]["containers"]});
    f.wire.post(&f.group("apps/v1", "deployments"), &deployment).await.expect(201);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "served"}, "spec": {"selector": {"name": "served"}, "ports": [{"port": 80, "targetPort": "web"}]}});
    f.wire.post(&f.core("services"), &service).await.expect(201);
    f.kubectl().ok(&["rollout", "status", "deployment/served", "--timeout=120s"]).await?;
    for version in versions::all().await? {
        for (target, ports) in [("pod/served", ":8080"), ("service/served", ":80"), ("deployment/served", ":8080")] {
            let (mut child, port) = forwarded(&f, &version, target, ports).await?;
            // Several connections, one after another and at once, over one connection to the apiserver.
            for answer in futures::future::join_all((0..5).map(|_| page(port))).await {
                let answer = answer.with_context(|| format!("{target} with kubectl 1.{}", version.minor))?;
                assert!(answer.contains("200 OK") && answer.contains("served by busybox"), "{target}: {answer}");
            }
            assert!(page(port).await?.contains("served by busybox"));
            assert!(child.try_wait()?.is_none(), "it goes on");
            child.kill().await?;
            let mut said = String::new();
            child.stderr.take().context("stderr")?.read_to_string(&mut said).await?;
            assert!(!said.to_lowercase().contains(FALLBACK), "{said}");
        }
        // A port that nobody listens on is said, and the rest goes on.
        let (mut child, port) = forwarded(&f, &version, "pod/served", ":9999").await?;
        let nothing = page(port).await;
        assert!(!nothing.is_ok_and(|text| text.contains("200 OK")));
        child.kill().await?;
        let mut said = String::new();
        child.stderr.take().context("stderr")?.read_to_string(&mut said).await?;
        assert!(said.contains("9999") && said.contains("refused"), "{said}");
    }
    Ok(())
}

async fn debug(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    // Versions before 1.22 write ephemeral containers in a form that Kubernetes no longer takes.
    let k = || async { anyhow::Ok(versions::newest().await?.on(&f)) };
    if versions::newest().await?.minor < 23 {
        return Ok(());
    }
    let image = ["--image", BUSYBOX, "--image-pull-policy=IfNotPresent", "-c", "look", "--target=main"];
    k().await?.ok(&[&["debug", "served"][..], &image, &["--", "sh", "-c", "echo looked; ps"]].concat()).await?;
    let pod = f.wire.get(&f.core("pods/served")).await.ok();
    assert_eq!(
        (&pod["spec"]["ephemeralContainers"][0]["name"], &pod["spec"]["ephemeralContainers"][0]["targetContainerName"]),
        (&json!("look"), &json!("main"))
    );
    f.until_it(&f.core("pods/served"), "to report the ephemeral container", POD, |pod| {
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    })
    .await;
    let log = k().await?.ok(&["logs", "served", "-c", "look"]).await?;
    assert!(log.starts_with("looked\n") && log.contains("httpd"), "it sees the target's processes: {log}");
    let listed = k().await?.ok(&["get", "pod", "served", "-o", "wide"]).await?;
    assert!(listed.contains("1/1"), "an ephemeral container does not count: {listed}");
    assert!(k().await?.ok(&["describe", "pod", "served"]).await?.contains("Ephemeral Containers:"));
    Ok(())
}

async fn proxy(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "served"}, "spec": {"selector": {"name": "served"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let slices =
        format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dserved", f.namespace);
    f.until("the service to have an endpoint", SOON, || async {
        f.list(&slices).await.iter().any(|s| s["endpoints"][0]["conditions"]["ready"] == true).then_some(())
    })
    .await;
    for version in versions::all().await? {
        let mut child = version.on(&f).command(&["proxy", "--port=0"]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line).await?;
        let port = line.trim().rsplit(':').next().unwrap_or("").to_owned();
        let get = |path: String| {
            let url = format!("http://127.0.0.1:{port}{path}");
            async move {
                let done = Command::new("curl")
                    .args(["--silent", "--show-error", "--location", "--max-time", "30", "--write-out", "%{http_code}", &url])
                    .output()
                    .await?;
                anyhow::Ok(String::from_utf8_lossy(&done.stdout).into_owned())
            }
        };
        assert!(get("/api".into()).await?.contains("\"versions\""), "{line}");
        let namespace = format!("/api/v1/namespaces/{}", f.namespace);
        for (kind, name) in [
            ("pods", "served"),
            ("pods", "served:8080"),
            ("pods", "http:served:8080"),
            ("services", "served:http"),
            ("services", "served:80"),
            ("services", "http:served:http"),
        ] {
            for tail in ["/index.html", "", "/"] {
                let path = format!("{namespace}/{kind}/{name}/proxy{tail}");
                let answer = get(path.clone()).await?;
                assert_eq!(answer, "served by busybox\n200", "{path}");
            }
        }
        let refused = get(format!("{namespace}/pods/served:9/proxy/")).await?;
        assert!(
            refused.ends_with("503")
                && refused.contains("error trying to reach service: dial tcp ")
                && refused.contains("connection refused"),
            "{refused}"
        );
        let nodes = f.list("/api/v1/nodes").await;
        let node = nodes[0]["metadata"]["name"].as_str().context("a node")?;
        assert_eq!(get(format!("/api/v1/nodes/{node}/proxy/healthz")).await?, "ok200");
        assert!(get(format!("/api/v1/nodes/{node}/proxy/configz")).await?.contains("kubeletconfig"));
        child.kill().await?;
    }
    Ok(())
}
