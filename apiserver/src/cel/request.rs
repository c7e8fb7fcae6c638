//! What an expression of admission may name: `object`, `oldObject`, `request`, `authorizer`, and in policies `params`, `namespaceObject` and `variables`.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::env::Env;
use super::eval::Vars;
use super::library::authorizer::{Authorize, Authz, Check};
use super::library::opaque::Opaque;
use super::library::{Fail, Out};
use super::shape::{Form, Shape};
use super::types::Type;
use super::value::Val;
use crate::auth::{Attributes, User};

/// The AdmissionRequest, without the objects, which are variables of their own.
static REQUEST: LazyLock<Arc<Shape>> = LazyLock::new(|| {
    let text = || Shape::new("", Form::String);
    let triple = |name: &str, last: &str| Shape::object(name, &[("group", text()), ("version", text()), (last, text())]);
    let kind = || triple("kubernetes.GroupVersionKind", "kind");
    let resource = || triple("kubernetes.GroupVersionResource", "resource");
    let extra = Shape::new("", Form::Map(Shape::list(&text())));
    let user =
        Shape::object("kubernetes.UserInfo", &[("username", text()), ("uid", text()), ("groups", Shape::list(&text())), ("extra", extra)]);
    Shape::object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Shape::new("", Form::Bool)),
            ("options", Shape::new("", Form::Dyn)),
        ],
    )
});

/// A namespace, as far as policies may see it.
static NAMESPACE: LazyLock<Arc<Shape>> = LazyLock::new(|| {
    let text = || Shape::new("", Form::String);
    let texts = || Shape::new("", Form::Map(text()));
    let time = || Shape::new("", Form::Timestamp);
    let metadata = Shape::object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", Shape::new("", Form::Int)),
            ("deletionTimestamp", time()),
            ("generation", Shape::new("", Form::Int)),
            ("resourceVersion", text()),
            ("finalizers", Shape::list(&text())),
        ],
    );
    let condition = Shape::object(
        "kubernetes.NamespaceCondition",
        &[("status", text()), ("type", text()), ("lastTransitionTime", time()), ("message", text()), ("reason", text())],
    );
    let spec = Shape::object("kubernetes.NamespaceSpec", &[("finalizers", Shape::list(&text()))]);
    let status = Shape::object("kubernetes.NamespaceStatus", &[("conditions", Shape::list(&condition)), ("phase", text())]);
    Shape::object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
});

/// The variables of match conditions, in the order of [`Facts`].
#[must_use]
pub fn conditions_env() -> Env {
    Env::default()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .shaped("request", &REQUEST)
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"))
}

/// The variables of a policy, with `params` if it has a kind of them. Those of its own come after.
#[must_use]
pub fn policy_env(params: bool) -> Env {
    let env = conditions_env().shaped("namespaceObject", &NAMESPACE);
    if params { env.with("params", Type::Dyn) } else { env }
}

/// What an expression of admission is about.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The AdmissionRequest; its objects, if any, are not looked at.
    pub request: &'a Value,
    /// The object as it will be; nothing on delete.
    pub object: Option<&'a Value>,
    /// The object as it is; nothing on create.
    pub old: Option<&'a Value>,
    /// Who makes the request.
    pub user: &'a User,
    /// Who decides what somebody may do.
    pub judge: &'a dyn Authorize,
    /// The namespace of a namespaced object.
    pub namespace: Option<&'a Value>,
    /// A policy's parameters.
    pub params: Option<&'a Value>,
}

impl<'a> Facts<'a> {
    /// What match conditions of webhooks are about. Objects that are null are not there.
    #[must_use]
    pub fn of_webhook(request: &'a Value, object: &'a Value, old: &'a Value, user: &'a User, judge: &'a dyn Authorize) -> Self {
        let there = |v: &'a Value| Some(v).filter(|v| !v.is_null());
        Self { request, object: there(object), old: there(old), user, judge, namespace: None, params: None }
    }
}

impl Facts<'_> {
    fn text(&self, pointer: &str) -> String {
        self.request.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl<'a> Vars<'a> for Facts<'a> {
    fn get(&self, index: usize) -> Out<'a> {
        let of = |value: Option<&'a Value>| value.map_or(Val::Null, |v| Val::of(v, None));
        let authz = || Authz { judge: self.judge, user: Rc::new(self.user.clone()) };
        Ok(match index {
            0 => of(self.object),
            1 => of(self.old),
            2 => Val::of(self.request, Some(&REQUEST)),
            3 => Val::Opaque(Opaque::Authorizer(authz())),
            4 => {
                let attributes = Attributes {
                    group: self.text("/requestResource/group"),
                    version: self.text("/requestResource/version"),
                    resource: self.text("/requestResource/resource"),
                    subresource: self.text("/requestSubResource"),
                    namespace: self.text("/namespace"),
                    name: self.text("/name"),
                    ..Attributes::default()
                };
                Val::Opaque(Opaque::Check(Rc::new(Check::of_request(authz(), attributes))))
            }
            5 => self.namespace.map_or(Val::Null, |v| Val::of(v, Some(&NAMESPACE))),
            6 => of(self.params),
            _ => return Err(Fail::Error("no such attribute".to_owned())),
        })
    }
}
