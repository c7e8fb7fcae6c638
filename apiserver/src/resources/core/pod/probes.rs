//! What is wrong with probes and lifecycle hooks.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, Probe, SleepAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resources::bounds::{follows, not_negative, one_of};
use crate::resources::network::validate_port;

pub(super) fn validate_probe(probe: &Probe, kind: &str, path: &Path, errors: &mut Errors) {
    let mut handlers = Handlers { count: 0, path, errors };
    if let Some(exec) = &probe.exec {
        handlers.exec(exec);
    }
    if let Some(http) = &probe.http_get {
        handlers.http(http);
    }
    if let Some(tcp) = &probe.tcp_socket {
        handlers.tcp(tcp);
    }
    if let Some(grpc) = &probe.grpc
        && handlers.is_first("grpc")
    {
        validate_port(grpc.port, &path.child("grpc").child("port"), handlers.errors);
    }
    handlers.finish();
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        not_negative(value, &path.child(name), errors);
    }
    let grace = path.child("terminationGracePeriodSeconds");
    match probe.termination_grace_period_seconds {
        Some(seconds) if kind == "readinessProbe" => errors.invalid(&grace, seconds, "must not be set for readinessProbes"),
        Some(seconds) if seconds <= 0 => errors.invalid(&grace, seconds, "must be greater than 0"),
        _ => {}
    }
    let threshold = probe.success_threshold.unwrap_or(1);
    if kind != "readinessProbe" && threshold != 1 {
        errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
    }
}

pub(super) fn validate_lifecycle(lifecycle: &Lifecycle, grace: i64, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if let Some(handler) = &lifecycle.post_start {
        validate_handler(handler, grace, &path.child("postStart"), errors);
    }
    if let Some(handler) = &lifecycle.pre_stop {
        validate_handler(handler, grace, &path.child("preStop"), errors);
    }
    if let Some(signal) = &lifecycle.stop_signal {
        let path = path.child("stopSignal");
        match spec.os.as_ref().map(|os| os.name.as_str()) {
            None => errors.forbidden(&path, "may not be set for containers with empty `spec.os.name`"),
            Some("windows") => one_of(signal, &["SIGKILL", "SIGTERM"], &path, errors),
            Some(_) if !signal.starts_with("SIG") => errors.invalid(&path, signal, "must be a valid signal for `spec.os.name` linux"),
            Some(_) => {}
        }
    }
}

fn validate_handler(handler: &LifecycleHandler, grace: i64, path: &Path, errors: &mut Errors) {
    let mut handlers = Handlers { count: 0, path, errors };
    if let Some(exec) = &handler.exec {
        handlers.exec(exec);
    }
    if let Some(http) = &handler.http_get {
        handlers.http(http);
    }
    if let Some(tcp) = &handler.tcp_socket {
        handlers.tcp(tcp);
    }
    if let Some(sleep) = &handler.sleep {
        handlers.sleep(sleep, grace);
    }
    handlers.finish();
}

/// Exactly one way to probe or to hook is allowed.
struct Handlers<'a> {
    count: usize,
    path: &'a Path,
    errors: &'a mut Errors,
}

impl Handlers<'_> {
    fn is_first(&mut self, name: &str) -> bool {
        self.count += 1;
        if self.count > 1 {
            self.errors.forbidden(&self.path.child(name), "may not specify more than 1 handler type");
        }
        self.count == 1
    }

    fn exec(&mut self, exec: &ExecAction) {
        if self.is_first("exec") && exec.command.as_ref().is_none_or(Vec::is_empty) {
            self.errors.required(&self.path.child("exec").child("command"), "");
        }
    }

    fn http(&mut self, http: &HTTPGetAction) {
        if !self.is_first("httpGet") {
            return;
        }
        let path = self.path.child("httpGet");
        if http.path.as_ref().is_none_or(String::is_empty) {
            self.errors.required(&path.child("path"), "");
        }
        validate_port_or_name(&http.port, &path.child("port"), self.errors);
        one_of(http.scheme.as_deref().unwrap_or(""), &["HTTP", "HTTPS"], &path.child("scheme"), self.errors);
        for header in http.http_headers.iter().flatten() {
            let ok = !header.name.is_empty() && header.name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
            if !ok {
                let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                self.errors.invalid(&path.child("httpHeaders"), &header.name, why);
            }
        }
    }

    fn tcp(&mut self, tcp: &TCPSocketAction) {
        if self.is_first("tcpSocket") {
            validate_port_or_name(&tcp.port, &self.path.child("tcpSocket").child("port"), self.errors);
        }
    }

    fn sleep(&mut self, sleep: &SleepAction, grace: i64) {
        if self.is_first("sleep") && (sleep.seconds < 0 || sleep.seconds > grace) {
            let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            self.errors.invalid(&self.path.child("sleep"), sleep.seconds, &why);
        }
    }

    fn finish(self) {
        if self.count == 0 {
            self.errors.required(self.path, "must specify a handler type");
        }
    }
}

fn validate_port_or_name(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(n) => validate_port(*n, path, errors),
        IntOrString::String(s) => follows(s, names::port_name, path, errors),
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check_container;
    use expect_test::expect;

    #[test]
    fn probes_and_hooks() {
        check_container("livenessProbe: {}", expect!["spec.containers[0].livenessProbe: Required value: must specify a handler type"]);
        check_container(
            "livenessProbe: {exec: {}, tcpSocket: {port: 1}, successThreshold: 2, periodSeconds: -1},
             readinessProbe: {httpGet: {port: 0, scheme: FTP, httpHeaders: [{name: 'a b', value: x}]}, terminationGracePeriodSeconds: 3},
             startupProbe: {grpc: {port: 0}}, lifecycle: {preStop: {sleep: {seconds: 31}}, postStart: {}}",
            expect![[r#"
                spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
                spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
                spec.containers[0].livenessProbe.exec.command: Required value
                spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
                spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
                spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
                spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
                spec.containers[0].readinessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
                spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes
                spec.containers[0].startupProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive"#]],
        );
    }
}
