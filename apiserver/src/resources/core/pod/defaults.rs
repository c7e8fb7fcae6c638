//! What a pod's author may leave out (upstream's `SetDefaults_*`). Shared by every kind that holds a pod template.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EnvVar, EphemeralContainer, LifecycleHandler, PodSpec, Probe, ProjectedVolumeSource,
    ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources::quantities;

/// The mode of files that volumes are made of.
const FILE_MODE: i32 = 0o644;
/// How long a projected token lives.
const TOKEN_SECONDS: i64 = 3600;

fn set(field: &mut Option<String>, value: &str) {
    if field.as_ref().is_none_or(String::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// Fills in a pod's spec, in a Pod as in a template.
pub fn pod_spec(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    set(&mut spec.scheduler_name, "default-scheduler");
    // Both fields say the same; the short one is from before v1.
    let account = spec.service_account_name.clone().filter(|n| !n.is_empty()).or_else(|| spec.service_account.take());
    spec.service_account_name.clone_from(&account);
    spec.service_account = account;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        default_container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_ephemeral(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
    quantities::canonical_list(&mut spec.overhead);
    quantities::canonical_requirements(&mut spec.resources);
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        set(&mut constraint.node_affinity_policy, "Honor");
        set(&mut constraint.node_taints_policy, "Ignore");
    }
}

/// What is filled in for pods alone, while a template stays as it is written: requests where limits are given, and the ports of the
/// node that a pod in its network has.
pub fn pod_alone(spec: &mut PodSpec) {
    if spec.host_network == Some(true) {
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for port in containers.flat_map(|c| c.ports.iter_mut().flatten()) {
            if port.host_port.unwrap_or(0) == 0 {
                port.host_port = Some(port.container_port);
            }
        }
    }
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if let Some(resources) = &mut container.resources {
            fill_requests(resources);
        }
    }
    if let Some(resources) = &mut spec.resources {
        fill_requests(resources);
    }
}

fn fill_requests(resources: &mut ResourceRequirements) {
    let Some(limits) = resources.limits.as_ref().filter(|l| !l.is_empty()) else { return };
    let requests: &mut BTreeMap<String, Quantity> = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// How an image is pulled when nobody says: always when the tag is `latest` or missing, otherwise when it is not there.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let (name, digest) = last.split_once('@').map_or((last, None), |(n, d)| (n, Some(d)));
    match name.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_none() => "Always",
        _ => "IfNotPresent",
    }
}

fn default_container(c: &mut Container) {
    set(&mut c.image_pull_policy, pull_policy(c.image.as_deref().unwrap_or("")));
    set(&mut c.termination_message_path, "/dev/termination-log");
    set(&mut c.termination_message_policy, "File");
    for port in c.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    default_env(c.env.as_deref_mut());
    for probe in [&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe].into_iter().flatten() {
        default_probe(probe);
    }
    default_lifecycle(&mut c.lifecycle);
    c.resources.get_or_insert_default();
    quantities::canonical_requirements(&mut c.resources);
}

fn default_ephemeral(c: &mut EphemeralContainer) {
    set(&mut c.image_pull_policy, pull_policy(c.image.as_deref().unwrap_or("")));
    set(&mut c.termination_message_path, "/dev/termination-log");
    set(&mut c.termination_message_policy, "File");
    for port in c.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    default_env(c.env.as_deref_mut());
    c.resources.get_or_insert_default();
}

fn default_env(env: Option<&mut [EnvVar]>) {
    for source in env.into_iter().flatten().filter_map(|e| e.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            set(&mut field.api_version, "v1");
        }
        if let Some(field) = &mut source.resource_field_ref {
            field.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
        }
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
}

fn default_probe(p: &mut Probe) {
    fn or(field: &mut Option<i32>, value: i32) {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    }
    or(&mut p.timeout_seconds, 1);
    or(&mut p.period_seconds, 10);
    or(&mut p.success_threshold, 1);
    or(&mut p.failure_threshold, 3);
    if let Some(http) = &mut p.http_get {
        set(&mut http.path, "/");
        set(&mut http.scheme, "HTTP");
    }
    if let Some(grpc) = &mut p.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_lifecycle(lifecycle: &mut Option<k8s_openapi::api::core::v1::Lifecycle>) {
    let Some(lifecycle) = lifecycle else { return };
    let handlers: [&mut Option<LifecycleHandler>; 2] = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    for http in handlers.into_iter().flatten().filter_map(|h| h.http_get.as_mut()) {
        set(&mut http.path, "/");
        set(&mut http.scheme, "HTTP");
    }
}

fn default_volume(v: &mut Volume) {
    if !has_source(v) {
        v.empty_dir = Some(Default::default());
    }
    if let Some(limit) = v.empty_dir.as_mut().and_then(|e| e.size_limit.as_mut()) {
        quantities::canonical(limit);
    }
    if let Some(s) = &mut v.secret {
        s.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(s) = &mut v.config_map {
        s.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(s) = &mut v.downward_api {
        s.default_mode.get_or_insert(FILE_MODE);
        default_files(s.items.as_deref_mut());
    }
    if let Some(s) = &mut v.projected {
        default_projected(s);
    }
    if let Some(s) = &mut v.host_path {
        s.type_.get_or_insert_default();
    }
    if let Some(s) = &mut v.iscsi {
        set(&mut s.iscsi_interface, "default");
    }
    if let Some(s) = &mut v.rbd {
        set(&mut s.pool, "rbd");
        set(&mut s.user, "admin");
        set(&mut s.keyring, "/etc/ceph/keyring");
    }
    if let Some(s) = &mut v.azure_disk {
        set(&mut s.caching_mode, "ReadWrite");
        set(&mut s.kind, "Shared");
        set(&mut s.fs_type, "ext4");
        s.read_only.get_or_insert(false);
    }
    if let Some(s) = &mut v.scale_io {
        set(&mut s.storage_mode, "ThinProvisioned");
        set(&mut s.fs_type, "xfs");
    }
    if let Some(template) = v.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        crate::resources::core::persistentvolumeclaims::default_spec(&mut template.spec);
    }
    if let Some(image) = &mut v.image {
        let policy = pull_policy(image.reference.as_deref().unwrap_or(""));
        set(&mut image.pull_policy, policy);
    }
}

fn has_source(v: &Volume) -> bool {
    // `name` is the only field that is no source.
    let tree = serde_json::to_value(v).unwrap_or_default();
    tree.as_object().is_some_and(|o| o.keys().any(|k| k != "name"))
}

fn default_projected(s: &mut ProjectedVolumeSource) {
    s.default_mode.get_or_insert(FILE_MODE);
    for source in s.sources.iter_mut().flatten() {
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
        }
        if let Some(downward) = &mut source.downward_api {
            default_files(downward.items.as_deref_mut());
        }
    }
}

fn default_files(files: Option<&mut [DownwardAPIVolumeFile]>) {
    for file in files.into_iter().flatten() {
        if let Some(field) = &mut file.field_ref {
            set(&mut field.api_version, "v1");
        }
        if let Some(field) = &mut file.resource_field_ref {
            field.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;
    use crate::resources::core::pod;
    use crate::resources::rows_in_tests::created;
    use expect_test::expect;

    #[test]
    fn pull_policy_by_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn the_smallest_pod() {
        expect![[r#"
            apiVersion: v1
            kind: Pod
            metadata:
              name: a
            spec:
              containers:
              - image: nginx
                imagePullPolicy: Always
                name: c
                resources: {}
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              enableServiceLinks: true
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
            status:
              phase: Pending
              qosClass: BestEffort
        "#]]
        .assert_eq(&created(pod::row(), "{metadata: {name: a}, spec: {containers: [{name: c, image: nginx}]}}"));
    }

    #[test]
    fn everything_that_has_a_default() {
        expect![[r#"
            apiVersion: v1
            kind: Pod
            metadata:
              name: a
            spec:
              containers:
              - env:
                - name: POD
                  valueFrom:
                    fieldRef:
                      apiVersion: v1
                      fieldPath: metadata.name
                image: nginx:1
                imagePullPolicy: IfNotPresent
                lifecycle:
                  preStop:
                    httpGet:
                      path: /
                      port: 80
                      scheme: HTTP
                livenessProbe:
                  failureThreshold: 3
                  httpGet:
                    path: /
                    port: 80
                    scheme: HTTP
                  periodSeconds: 10
                  successThreshold: 1
                  timeoutSeconds: 1
                name: c
                ports:
                - containerPort: 80
                  hostPort: 80
                  protocol: TCP
                resources:
                  limits:
                    cpu: 1
                  requests:
                    cpu: 1
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              enableServiceLinks: true
              hostNetwork: true
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              serviceAccount: s
              serviceAccountName: s
              terminationGracePeriodSeconds: 30
              volumes:
              - emptyDir: {}
                name: v
              - name: s
                secret:
                  defaultMode: 420
                  secretName: s
              - hostPath:
                  path: /x
                  type: ''
                name: h
              - name: p
                projected:
                  defaultMode: 420
                  sources:
                  - serviceAccountToken:
                      expirationSeconds: 3600
                      path: t
            status:
              phase: Pending
              qosClass: Burstable
        "#]]
        .assert_eq(&created(
            pod::row(),
            "{metadata: {name: a}, spec: {hostNetwork: true, serviceAccount: s,
              volumes: [{name: v}, {name: s, secret: {secretName: s}}, {name: h, hostPath: {path: /x}},
                {name: p, projected: {sources: [{serviceAccountToken: {path: t}}]}}],
              containers: [{name: c, image: 'nginx:1', ports: [{containerPort: 80}], resources: {limits: {cpu: 1}},
                env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
                livenessProbe: {httpGet: {port: 80}}, lifecycle: {preStop: {httpGet: {port: 80}}}}]}}",
        ));
    }
}
