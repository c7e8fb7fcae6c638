//! The options of writes, from query parameters and bodies.

use api::status::Status;
use serde_json::Value;

use super::Call;

/// What is done about fields that the kind does not have, or that come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is told.
    Warn,
    /// The request fails.
    Strict,
}

/// The options of a write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Who owns the fields that are written.
    pub manager: String,
    /// What is done about unknown fields.
    pub validation: Validation,
    /// Whether an apply takes fields from other managers.
    pub force: Option<bool>,
    /// Whether it is an apply, which settles ownership of fields by itself.
    pub apply: bool,
}

/// The most bytes of a manager's name.
const MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// 422 for values that make no sense.
    pub fn parse(call: &Call) -> Result<Self, Status> {
        let mut errors = api::field::Errors::new();
        let at = api::field::Path::new;
        let dry_run = call.query.get("dryRun").unwrap_or("");
        if !matches!(dry_run, "" | "All") {
            errors.not_supported(&at("dryRun"), dry_run, &["All"]);
        }
        let validation = match call.query.get("fieldValidation").unwrap_or("") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                errors.not_supported(&at("fieldValidation"), other, &["Ignore", "Strict", "Warn"]);
                Validation::Strict
            }
        };
        let manager = match call.query.get("fieldManager") {
            Some(manager) if !manager.is_empty() => manager.to_owned(),
            _ => agent(call),
        };
        if manager.len() > MANAGER_MAX {
            errors.too_long(&at("fieldManager"), MANAGER_MAX);
        } else if manager.chars().any(char::is_control) {
            errors.invalid(&at("fieldManager"), &manager, "should only contain printable characters");
        }
        if !errors.is_empty() {
            let kind = match call.info.verb.as_str() {
                "create" => "CreateOptions",
                "update" => "UpdateOptions",
                _ => "PatchOptions",
            };
            return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
        }
        let force = call.query.get("force").map(|_| call.query.flag("force"));
        Ok(Self { dry_run: !dry_run.is_empty(), manager, validation, force, apply: false })
    }
}

/// The default manager: the user agent up to its version.
fn agent(call: &Call) -> String {
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
    let name = agent.split('/').next().unwrap_or("unknown");
    crate::apply::server_side::manager_name("", name)
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// The options of a delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds the object may take.
    pub grace: Option<i64>,
    /// The uid it must have.
    pub uid: Option<String>,
    /// The resourceVersion it must have.
    pub resource_version: Option<String>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// Whether the client asked, in the old way, that dependents go too: then it is told when the object is not gone yet (202).
    pub cascades: bool,
    /// Nothing is stored.
    pub dry_run: bool,
    /// It is part of a request that was admitted already, as an eviction is.
    pub admitted: bool,
}

impl DeleteOptions {
    /// Reads the options from a body, if there is one, else from the query.
    ///
    /// # Errors
    /// 400 or 422 for values that make no sense.
    pub fn parse(call: &Call, body: Option<&Value>) -> Result<Self, Status> {
        let mut errors = api::field::Errors::new();
        let at = api::field::Path::new;
        let text = |pointer: &str| body.and_then(|b| b.pointer(pointer)).and_then(Value::as_str).map(str::to_owned);
        let in_query = |name: &str| call.query.get(name).filter(|v| !v.is_empty());
        if let Some(kind) = text("/kind")
            && kind != "DeleteOptions"
        {
            return Err(Status::bad_request(format!("expected DeleteOptions, got {kind}")));
        }
        let grace = match body.and_then(|b| b.get("gracePeriodSeconds")).filter(|v| !v.is_null()) {
            Some(value) => Some(value.as_i64().ok_or_else(|| Status::bad_request("gracePeriodSeconds must be an integer"))?),
            None => call.query.number("gracePeriodSeconds")?,
        };
        let policy = text("/propagationPolicy").or_else(|| in_query("propagationPolicy").map(str::to_owned));
        let orphans = body
            .and_then(|b| b.get("orphanDependents"))
            .and_then(Value::as_bool)
            .or_else(|| in_query("orphanDependents").map(|_| call.query.flag("orphanDependents")));
        if orphans.is_some() && policy.is_some() {
            errors.invalid(
                &at("propagationPolicy"),
                policy.clone().unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let propagation = match (policy.as_deref(), orphans) {
            (None, None) => None,
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                errors.not_supported(&at("propagationPolicy"), other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
        };
        let dry_run = body.and_then(|b| b.pointer("/dryRun/0")).and_then(Value::as_str).or_else(|| in_query("dryRun")).unwrap_or("");
        if !matches!(dry_run, "" | "All") {
            errors.not_supported(&at("dryRun"), dry_run, &["All"]);
        }
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        Ok(Self {
            grace,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation,
            cascades: orphans == Some(false),
            dry_run: !dry_run.is_empty(),
            admitted: false,
        })
    }
}
