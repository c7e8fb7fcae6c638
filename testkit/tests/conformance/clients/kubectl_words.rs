//! What kubectl of each version says of what there is: describe's sections, wide tables, explanations, rights.

use super::super::framework::{Behaviour, Framework, SOON, test};
use super::versions;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("clients: kubectl describes nodes, pods, deployments and services as people know them", test!(describe)),
    Behaviour::new("clients: kubectl explains, lists resources and answers what one may do", test!(questions)),
];

/// That each of these lines, or beginnings of lines, is there, in this order.
#[track_caller]
fn sections(text: &str, wanted: &[&str]) {
    let mut lines = text.lines();
    for section in wanted {
        assert!(lines.any(|l| l.starts_with(section)), "no {section:?} (or too early) in\n{text}");
    }
}

async fn describe(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    let service = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "served"},
        "spec": {"selector": {"name": "served"}, "ports": [{"name": "web", "port": 80, "targetPort": "web"}]}});
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let idle = Framework::workload("Deployment", "idle", 1, &serde_json::json!({"app": "idle"}));
    f.wire.post(&f.group("apps/v1", "deployments"), &idle).await.expect(201);
    f.until_pods("app=idle", 1).await;
    f.until_it(&f.core("endpoints/served"), "to have the pod", SOON, |e| e["subsets"][0]["addresses"][0]["ip"].is_string()).await;
    for version in versions::all().await? {
        let k = || version.on(&f);
        let nodes = k().ok(&["get", "nodes", "-o", "wide"]).await?;
        let heading: Vec<&str> = nodes.lines().next().unwrap_or("").split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
        let wanted =
            ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"];
        assert_eq!(heading, wanted);
        let row = nodes.lines().nth(1).unwrap_or("");
        assert!(row.contains(" Ready ") && row.contains(" v1.35.0") && row.contains("containerd://"), "{nodes}");
        let name = row.split(' ').next().unwrap_or("");
        let node = k().ok(&["describe", "node", name]).await?;
        sections(
            &node,
            &[
                "Name:               ",
                "Roles:",
                "Labels:",
                "Annotations:",
                "CreationTimestamp:",
                "Taints:",
                "Unschedulable:      false",
                "Lease:",
                "  HolderIdentity:  ",
                "Conditions:",
                "  Type ",
                "  MemoryPressure ",
                "Addresses:",
                "  InternalIP:",
                "Capacity:",
                "  cpu:",
                "Allocatable:",
                "  pods:",
                "System Info:",
                "  Machine ID:",
                "  Kubelet Version:",
                "PodCIDR:",
                "PodCIDRs:",
                "Non-terminated Pods:",
                "Allocated resources:",
                "  cpu ",
                "Events:",
            ],
        );

        let pod = k().ok(&["describe", "pod", "served"]).await?;
        sections(
            &pod,
            &[
                "Name:         ",
                "Namespace:    ",
                "Priority:  ",
                "Node:         ",
                "Start Time:",
                "Labels:",
                "Annotations:",
                "Status:       ",
                "IP:",
                "IPs:",
                "  IP:",
                "Containers:",
                "  main:",
                "    Container ID:  ",
                "    Image:         busybox",
                "    Image ID:",
                "    Port:          8080/TCP",
                "    Command:",
                "    State:          Running",
                "      Started:",
                "    Ready:          True",
                "    Restart Count:  0",
                "    Environment:    <none>",
                "    Mounts:",
                "      /var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-",
                "Conditions:",
                "  Initialized       ",
                "  Ready  ",
                "Volumes:",
                "  kube-api-access-",
                "QoS Class:",
                "Node-Selectors:",
                "Tolerations:",
                "Events:",
            ],
        );
        for event in ["Scheduled", "Pulled", "Created", "Started"] {
            assert!(pod.lines().any(|l| l.split_whitespace().take(2).eq(["Normal", event])), "no {event} in {pod}");
        }

        let service = k().ok(&["describe", "service", "served"]).await?;
        sections(
            &service,
            &[
                "Name:",
                "Namespace:",
                "Labels:",
                "Annotations:",
                "Selector:",
                "Type:",
                "IP Famil",
                "IP:",
                "IPs:",
                "Port:",
                "TargetPort:",
                "Endpoints:",
                "Session Affinity:",
            ],
        );
        assert!(service.lines().any(|l| l.starts_with("Endpoints:") && l.ends_with(":8080")), "{service}");
        let deployment = k().ok(&["describe", "deployment", "idle"]).await?;
        sections(
            &deployment,
            &[
                "Name:",
                "Namespace:",
                "CreationTimestamp:",
                "Labels:",
                "Annotations:            deployment.kubernetes.io/revision: 1",
                "Selector:",
                "Replicas:",
                "StrategyType:           RollingUpdate",
                "MinReadySeconds:",
                "RollingUpdateStrategy:  25% max unavailable, 25% max surge",
                "Pod Template:",
                "  Labels:",
                "  Containers:",
                "   main:",
                "Conditions:",
                "  Available ",
                "  Progressing ",
                "OldReplicaSets:",
                "NewReplicaSet:   idle-",
                "Events:",
                "  Normal  ScalingReplicaSet ",
            ],
        );

        let pods = k().ok(&["get", "pods", "-o", "wide"]).await?;
        let heading: Vec<&str> = pods.lines().next().unwrap_or("").split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
        assert_eq!(heading, ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
        let services = k().ok(&["get", "services", "-o", "wide"]).await?;
        assert!(services.contains("80/TCP") && services.contains("name=served"), "{services}");
        let events = k().ok(&["get", "events", "--field-selector=involvedObject.name=served"]).await?;
        assert!(events.starts_with("LAST SEEN") && events.contains("Scheduled") && events.contains("Started"), "{events}");
        if version.minor >= 26 {
            let events = k().ok(&["events", "--for", "pod/served"]).await?;
            assert!(events.contains("Scheduled"), "{events}");
        }
    }
    Ok(())
}

async fn questions(f: Framework) -> anyhow::Result<()> {
    for version in versions::all().await? {
        let k = || version.on(&f);
        let resources = k().ok(&["api-resources"]).await?;
        let row = resources.lines().find(|l| l.starts_with("deployments ")).unwrap_or("").split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["deployments", "deploy", "apps/v1", "true", "Deployment"]);
        assert!(k().ok(&["api-versions"]).await?.lines().any(|l| l == "networking.k8s.io/v1"));
        let explained = k().ok(&["explain", "pod.spec.containers.livenessProbe"]).await?;
        sections(&explained, &["KIND:", "VERSION:", "FIELD"]);
        assert!(explained.contains("initialDelaySeconds"), "{explained}");
        assert!(k().ok(&["explain", "deployments", "--recursive"]).await?.contains("maxSurge"));
        assert_eq!(k().ok(&["auth", "can-i", "create", "deployments"]).await?, "yes\n");
        let no = k().run(&["auth", "can-i", "list", "secrets", "--as=bob"]).await?;
        assert_eq!((no.success, no.out.trim()), (false, "no"));
        let forbidden = k().fails(&["get", "pods", "--as=bob"]).await?;
        assert!(
            forbidden.starts_with("Error from server (Forbidden): pods is forbidden: User \"bob\" cannot list resource \"pods\""),
            "{forbidden}"
        );
        let parts = k().ok(&["get", "componentstatuses"]).await?;
        for part in ["controller-manager", "etcd-0", "scheduler"] {
            assert!(parts.lines().any(|l| l.starts_with(part) && l.contains(" Healthy ")), "{parts}");
        }
        let top = k().fails(&["top", "pods"]).await?;
        assert!(top.contains("Metrics API not available") || top.contains("metrics not available"), "{top}");
        assert!(k().ok(&["cluster-info"]).await?.contains("is running at"));
        let said = k().ok(&["version", "-o", "json"]).await?;
        assert!(said.contains("\"gitVersion\": \"v1.35.0+ferrite"), "{said}");
        assert!(k().ok(&["get", "--raw", "/readyz"]).await? == "ok");
        let none = k().run(&["get", "pods"]).await?;
        assert_eq!(
            (none.success, none.out.as_str(), none.err.as_str()),
            (true, "", &*format!("No resources found in {} namespace.\n", f.namespace))
        );
    }
    Ok(())
}
