//! Names as pods see them: by DNS, in `/etc/hosts`, and with a resolver of their own.

use std::time::Duration;

use serde_json::{Value, json};

use super::serving::{client, server_pod, shell, until_endpoints};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-network] DNS should provide DNS for the cluster", test!(cluster)),
    Behaviour::new("[sig-network] DNS should provide /etc/hosts entries for the cluster", test!(hosts)),
    Behaviour::new("[sig-network] DNS should provide DNS for services", test!(services)),
    Behaviour::new("[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly]", test!(partial_names)),
    Behaviour::new("[sig-network] DNS should provide DNS for pods for Hostname", test!(hostname)),
    Behaviour::new("[sig-network] DNS should provide DNS for pods for Subdomain", test!(subdomain)),
    Behaviour::new("[sig-network] DNS should provide DNS for ExternalName services", test!(external_name)),
    Behaviour::new("[sig-network] DNS should support configurable pod DNS nameservers", test!(own_nameservers)),
];

/// A change is known to every resolver within this time: caches hold answers for seconds.
const KNOWN: Duration = Duration::from_secs(90);

/// One question and a part of its answer.
struct Probe {
    command: String,
    answer: String,
}

/// A question to the cluster's DNS for a whole name.
fn dns(kind: &str, name: &str, answer: &str) -> Probe {
    Probe { command: format!("nslookup -type={kind} {name}."), answer: answer.to_owned() }
}

/// A question as programs ask it, with the search list of the pod. It is only the name that matters, not whether anybody answers pings.
fn searched(name: &str, answer: &str) -> Probe {
    Probe { command: format!("ping -c 1 -W 1 {name}"), answer: format!("({answer})") }
}

/// Over TCP: the question as bytes, with its length before it; the answer holds the address in hexadecimal.
fn tcp(name: &str, address: &str) -> Probe {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let length = u16::try_from(message.len()).expect("a short question").to_be_bytes();
    let bytes: String = length.iter().chain(&message).map(|b| format!("\\{b:03o}")).collect();
    let server = "$(sed -n 's/^nameserver //p' /etc/resolv.conf | head -n1)";
    let address: Vec<u8> = address.split('.').map(|part| part.parse().expect("a number")).collect();
    let hex: String = address.iter().map(|b| format!("{b:02x}")).collect();
    Probe { command: format!("printf '{bytes}' | nc -w 2 {server} 53 | xxd -p | tr -d '\\n'"), answer: hex }
}

/// Waits until each question has its answer, asked from the pod.
async fn resolves(f: &Framework, pod: &str, probes: &[Probe]) {
    // All in one command: each is a process in a container.
    let script: String = probes.iter().enumerate().map(|(i, p)| format!("echo probe {i}; {{ {}; }} 2>&1;\n", p.command)).collect();
    let last = parking_lot::Mutex::new(String::new());
    let all = f.until("all names to be resolved", KNOWN, || async {
        let said = shell(f, pod, &script).await.ok()?;
        let answers: Vec<&str> = said.split("probe ").skip(1).collect();
        let right = |(probe, answer): (&Probe, &&str)| answer.contains(&probe.answer);
        let wrong: Vec<String> =
            probes.iter().zip(&answers).filter(|pair| !right(*pair)).map(|(p, a)| format!("{}: {a}", p.command)).collect();
        *last.lock() = wrong.join("\n");
        (answers.len() == probes.len() && wrong.is_empty()).then_some(())
    });
    let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(all)).await;
    assert!(outcome.is_ok(), "not resolved in {KNOWN:?}:\n{}", last.lock());
}

fn headless(name: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": selector, "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]},
    })
}

async fn cluster_ip(f: &Framework, path: &str) -> String {
    f.wire.get(path).await.expect(200)["spec"]["clusterIP"].as_str().expect("an address").to_owned()
}

async fn cluster(f: Framework) -> anyhow::Result<()> {
    let pod = client(&f).await;
    let address = cluster_ip(&f, "/api/v1/namespaces/default/services/kubernetes").await;
    let full = "kubernetes.default.svc.cluster.local";
    let mut probes = vec![dns("a", full, &address), tcp(full, &address)];
    probes.extend(["kubernetes.default", "kubernetes.default.svc", full].map(|name| searched(name, &address)));
    resolves(&f, pod, &probes).await;
    Ok(())
}

async fn hosts(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("dns-test", "exec sleep 3600");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    (pod["spec"]["hostname"], pod["spec"]["subdomain"]) = (json!("dns-querier-1"), json!("dns-test-service"));
    f.create_pod(&pod).await;
    let ip = f.until_ready("dns-test").await["status"]["podIP"].as_str().expect("an address").to_owned();
    let said = shell(&f, "dns-test", "cat /etc/hosts").await?;
    let full = format!("dns-querier-1.dns-test-service.{}.svc.cluster.local", f.namespace);
    let line = said.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|l| l.first() == Some(&ip.as_str()));
    assert_eq!(line, Some(vec![ip.as_str(), &full, "dns-querier-1"]), "{said}");
    // There is no such Service: DNS does not know the names.
    resolves(&f, "dns-test", &[searched(&full, &ip), searched("dns-querier-1", &ip)]).await;
    Ok(())
}

/// A headless Service and one with an address, a pod behind both that is also the one who asks. Gives the pod's address and the Service's.
async fn two_services(f: &Framework) -> (String, String) {
    let labels = json!({"dns-test": "true"});
    f.wire.post(&f.core("services"), &headless("dns-test-service", &labels)).await.expect(201);
    let mut regular = headless("test-service-2", &labels);
    regular["spec"].as_object_mut().expect("a spec").remove("clusterIP");
    let regular = f.wire.post(&f.core("services"), &regular).await.expect(201);
    let mut pod = server_pod("dns-test", &labels, 80);
    (pod["spec"]["hostname"], pod["spec"]["subdomain"]) = (json!("dns-test"), json!("dns-test-service"));
    f.create_pod(&pod).await;
    let ready = f.until_ready("dns-test").await;
    until_endpoints(f, "dns-test-service", &[("dns-test", 80)]).await;
    let text = |v: &Value| v.as_str().expect("an address").to_owned();
    (text(&ready["status"]["podIP"]), text(&regular["spec"]["clusterIP"]))
}

async fn services(f: Framework) -> anyhow::Result<()> {
    let (pod, service) = two_services(&f).await;
    let zone = format!("{}.svc.cluster.local", f.namespace);
    let reverse = |address: &str| format!("{}.in-addr.arpa", address.rsplit('.').collect::<Vec<_>>().join("."));
    let member = format!("dns-test.dns-test-service.{zone}");
    let probes = [
        dns("a", &format!("dns-test-service.{zone}"), &pod),
        dns("a", &format!("test-service-2.{zone}"), &service),
        tcp(&format!("test-service-2.{zone}"), &service),
        dns("srv", &format!("_http._tcp.dns-test-service.{zone}"), &format!("80 {member}")),
        dns("srv", &format!("_http._tcp.test-service-2.{zone}"), &format!("80 test-service-2.{zone}")),
        dns("a", &member, &pod),
        dns("ptr", &reverse(&service), &format!("test-service-2.{zone}")),
        dns("ptr", &reverse(&pod), &member),
    ];
    resolves(&f, "dns-test", &probes).await;
    Ok(())
}

async fn partial_names(f: Framework) -> anyhow::Result<()> {
    let (pod, service) = two_services(&f).await;
    let namespace = f.namespace.as_str();
    let mut probes = vec![];
    for (name, address) in [("dns-test-service", &pod), ("test-service-2", &service)] {
        for written in [name.to_owned(), format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")] {
            probes.push(searched(&written, address));
        }
    }
    // Who looks for SRV records with the search list gets to the whole name with its first entry, or its second.
    let search = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local");
    probes.push(Probe { command: "cat /etc/resolv.conf".into(), answer: search });
    probes.push(Probe { command: "cat /etc/resolv.conf".into(), answer: "options ndots:5".into() });
    resolves(&f, "dns-test", &probes).await;
    Ok(())
}

/// A headless Service, and a pod with a name in it that asks for itself.
async fn named(f: &Framework, service: &str, host: &str) -> (String, String) {
    let labels = json!({"dns-test-hostname-attribute": "true"});
    f.wire.post(&f.core("services"), &headless(service, &labels)).await.expect(201);
    let mut pod = server_pod("dns-test", &labels, 80);
    (pod["spec"]["hostname"], pod["spec"]["subdomain"]) = (json!(host), json!(service));
    f.create_pod(&pod).await;
    let ready = f.until_ready("dns-test").await;
    (ready["status"]["podIP"].as_str().expect("an address").to_owned(), format!("{service}.{}.svc.cluster.local", f.namespace))
}

async fn hostname(f: Framework) -> anyhow::Result<()> {
    let (ip, zone) = named(&f, "dns-test-service-2", "dns-querier-2").await;
    let full = format!("dns-querier-2.{zone}");
    let own = Probe { command: "hostname; hostname -f".into(), answer: format!("dns-querier-2\n{full}\n") };
    resolves(&f, "dns-test", &[dns("a", &full, &ip), searched(&full, &ip), searched("dns-querier-2", &ip), own]).await;
    Ok(())
}

async fn subdomain(f: Framework) -> anyhow::Result<()> {
    let (ip, zone) = named(&f, "dns-test-service-2", "dns-querier-2").await;
    let full = format!("dns-querier-2.{zone}");
    resolves(&f, "dns-test", &[dns("a", &full, &ip), dns("a", &zone, &ip), tcp(&full, &ip), tcp(&zone, &ip)]).await;
    Ok(())
}

async fn external_name(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "dns-test-service-3";
    let service = |target: &str| json!({"type": "ExternalName", "externalName": target});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": service("foo.example.com")});
    f.wire.post(&f.core("services"), &object).await.expect(201);
    let (pod, path) = (client(&f).await, f.core(&format!("services/{NAME}")));
    let full = format!("{NAME}.{}.svc.cluster.local", f.namespace);
    resolves(&f, pod, &[dns("cname", &full, "foo.example.com")]).await;
    f.update(&path, |s| s["spec"]["externalName"] = json!("bar.example.com")).await;
    resolves(&f, pod, &[dns("cname", &full, "bar.example.com")]).await;
    let changed = f
        .update(&path, |s| {
            s["spec"]["type"] = json!("ClusterIP");
            s["spec"]["externalName"] = json!("");
            s["spec"]["ports"] = json!([{"port": 80, "name": "http", "protocol": "TCP"}]);
        })
        .await;
    resolves(&f, pod, &[dns("a", &full, changed["spec"]["clusterIP"].as_str().expect("an address"))]).await;
    Ok(())
}

async fn own_nameservers(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("test-dns-nameservers", "cat /etc/resolv.conf");
    pod["spec"]["dnsPolicy"] = json!("None");
    pod["spec"]["dnsConfig"] = json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
    let said = f.output_of(&pod).await;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["search resolv.conf.local", "nameserver 1.1.1.1"]);
    f.until_it(&f.core("pods/test-dns-nameservers"), "to have ended", POD, |p| p["status"]["phase"] == "Succeeded").await;
    Ok(())
}
