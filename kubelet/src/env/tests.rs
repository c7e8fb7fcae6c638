use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn sources() -> Sources {
    let parse_map = |v: serde_json::Value| -> ConfigMap { serde_json::from_value(v).unwrap() };
    let parse_secret = |v: serde_json::Value| -> Secret { serde_json::from_value(v).unwrap() };
    let service = |namespace: &str, name: &str, ip: &str, ports: serde_json::Value| -> Service {
        let spec = json!({"clusterIP": ip, "ports": ports});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec})).unwrap()
    };
    Sources {
        config_maps: [("cm".to_owned(), parse_map(json!({"data": {"k": "v", "a.b": "dotted"}})))].into(),
        secrets: [("s".to_owned(), parse_secret(json!({"data": {"pw": "aHVudGVy"}})))].into(),
        files: [
            (("data".to_owned(), "a.env".to_owned()), File::Text("A='from a file'\nB='b'\n".into())),
            (("data".to_owned(), "none.env".to_owned()), File::Absent),
        ]
        .into(),
        services: vec![
            service("default", "kubernetes", "10.96.0.1", json!([{"name": "https", "port": 443}])),
            service("ns", "my-db", "10.96.0.9", json!([{"port": 53, "protocol": "UDP"}])),
            service("ns", "headless", "None", json!([{"port": 80}])),
            service("other", "hidden", "10.96.0.8", json!([{"port": 80}])),
        ],
        node: NodeFacts {
            name: "n1".into(),
            host_ips: vec!["192.0.2.1".into()],
            allocatable: [("cpu".to_owned(), Quantity("2".into())), ("memory".to_owned(), Quantity("4Gi".into()))].into(),
        },
        pod_ips: vec!["10.244.0.5".into(), "fd00::5".into()],
    }
}

/// The environment of a container with these fields; Services only where `links`.
#[track_caller]
fn check(container: &str, links: bool, expected: Expect) {
    let mut container: serde_json::Value = serde_saphyr::from_str(container).unwrap();
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "a\"b", "z": "1"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "sa", "enableServiceLinks": links, "containers": [container]},
    }))
    .unwrap();
    let mut sources = sources();
    if !links {
        sources.services.remove(0);
    }
    let text = match environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &sources) {
        Ok(env) => env.iter().map(|(n, v)| format!("{n}={v}\n")).collect(),
        Err(error) => format!("error: {error}\n"),
    };
    expected.assert_eq(&text);
}

#[test]
fn earlier_variables_compose_into_later_ones() {
    check(
        "env: [{name: A, value: a}, {name: B, value: '$(A)-$(C)-$$(A)'}, {name: C, value: c}, {name: A, value: '$(A)2'}, {name: E}]",
        false,
        expect![[r#"
            A=a2
            B=a-$(C)-$(A)
            C=c
            E=
        "#]],
    );
}

#[test]
fn files_of_volumes() {
    check(
        "env: [{name: FIRST, valueFrom: {fileKeyRef: {volumeName: data, path: a.env, key: A}}}, {name: SECOND, value: '$(FIRST)!'},
          {name: THIRD, valueFrom: {fileKeyRef: {volumeName: data, path: none.env, key: A, optional: true}}}]",
        false,
        expect![[r#"
            FIRST=from a file
            SECOND=from a file!
        "#]],
    );
    check(
        "env: [{name: FIRST, valueFrom: {fileKeyRef: {volumeName: data, path: a.env, key: C}}}]",
        false,
        expect![[r#"
            error: environment variable key "C" not found in file
        "#]],
    );
}

#[test]
fn env_wins_over_env_from() {
    check(
        "{envFrom: [{configMapRef: {name: cm}}, {prefix: P_, secretRef: {name: s}}, {configMapRef: {name: none, optional: true}}], env: [{name: k, value: own}]}",
        false,
        expect![[r#"
            a.b=dotted
            k=own
            P_pw=hunter
        "#]],
    );
}

#[test]
fn fields_and_resources() {
    check(
        "{resources: {limits: {cpu: 1500m}, requests: {cpu: 250m, memory: 1Mi}}, env: [
          {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
          {name: APP, valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''app'']'}}},
          {name: NONE, valueFrom: {fieldRef: {fieldPath: 'metadata.annotations[''x'']'}}},
          {name: ALL, valueFrom: {fieldRef: {fieldPath: metadata.labels}}},
          {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
          {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}},
          {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}},
          {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
          {name: CPU_M, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}},
          {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
          {name: REQ, valueFrom: {resourceFieldRef: {containerName: c, resource: requests.memory}}}]}",
        false,
        expect![[r#"
            NAME=p
            APP=a"b
            NONE=
            ALL=app="a\"b"
            z="1"
            IP=10.244.0.5
            IPS=10.244.0.5,fd00::5
            HOST=192.0.2.1
            CPU=2
            CPU_M=250
            MEM=4096
            REQ=1048576
        "#]],
    );
    check(
        "env: [{name: X, valueFrom: {fieldRef: {fieldPath: spec.x}}}]",
        false,
        expect![[r#"
        error: unsupported fieldPath: spec.x
    "#]],
    );
    check(
        "env: [{name: X, valueFrom: {resourceFieldRef: {containerName: d, resource: limits.cpu}}}]",
        false,
        expect![[r#"
        error: container d not found
    "#]],
    );
}

#[test]
fn what_is_missing_is_named_as_upstream_does() {
    check(
        "env: [{name: X, valueFrom: {configMapKeyRef: {name: cm, key: zz}}}]",
        false,
        expect![[r#"
        error: couldn't find key zz in ConfigMap ns/cm
    "#]],
    );
    check(
        "env: [{name: X, valueFrom: {configMapKeyRef: {name: none, key: zz}}}]",
        false,
        expect![[r#"
        error: configmap "none" not found
    "#]],
    );
    check(
        "env: [{name: X, valueFrom: {secretKeyRef: {name: s, key: zz}}}]",
        false,
        expect![[r#"
        error: couldn't find key zz in Secret ns/s
    "#]],
    );
    check(
        "envFrom: [{secretRef: {name: none}}]",
        false,
        expect![[r#"
        error: secret "none" not found
    "#]],
    );
    check(
        "env: [{name: X, valueFrom: {secretKeyRef: {name: s, key: zz, optional: true}}}, {name: YY, valueFrom: {secretKeyRef: {name: s, key: pw}}}]",
        false,
        expect![[r#"
        YY=hunter
    "#]],
    );
}

#[test]
fn services_of_the_namespace_and_the_master_are_told() {
    check(
        "env: [{name: MY_DB_PORT, value: mine}, {name: URL, value: 'https://$(KUBERNETES_SERVICE_HOST)'}]",
        true,
        expect![[r#"
        MY_DB_PORT=mine
        URL=https://10.96.0.1
        KUBERNETES_PORT=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_SERVICE_HOST=10.96.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        MY_DB_PORT_53_UDP=udp://10.96.0.9:53
        MY_DB_PORT_53_UDP_ADDR=10.96.0.9
        MY_DB_PORT_53_UDP_PORT=53
        MY_DB_PORT_53_UDP_PROTO=udp
        MY_DB_SERVICE_HOST=10.96.0.9
        MY_DB_SERVICE_PORT=53
    "#]],
    );
    let names: Vec<String> = service_variables(&sources().services, "ns", false).into_iter().map(|(n, _)| n).collect();
    assert!(names.iter().all(|n| n.starts_with("KUBERNETES_")) && !names.is_empty(), "{names:?}");
}

#[test]
fn commands_see_the_variables() {
    let env = [("A".to_owned(), "1".to_owned())];
    let container =
        Container { command: Some(vec!["$(A)".into(), "$(B)".into()]), args: Some(vec!["$$(A)".into()]), ..Container::default() };
    assert_eq!(command(&container, &env), (vec!["1".to_owned(), "$(B)".into()], vec!["$(A)".to_owned()]));
}
