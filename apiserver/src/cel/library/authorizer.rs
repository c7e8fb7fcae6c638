//! What the requester, or a service account, may do: `authorizer.group("").resource("pods").check("create").allowed()`.

use std::fmt;
use std::rc::Rc;

use super::super::value::Val;
use super::opaque::Opaque;
use super::{Cost, Cx, Def, Out, def, fail, no_overload};
use crate::auth::{Attributes, User};

/// Whoever decides.
pub trait Authorize {
    /// Whether `user` may.
    fn allows(&self, user: &User, attributes: &Attributes) -> bool;
}

impl Authorize for crate::auth::Authorizer {
    fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        Self::allows(self, user, attributes)
    }
}

/// Somebody whose rights can be asked for.
#[derive(Clone)]
pub struct Authz<'a> {
    /// Who decides.
    pub judge: &'a dyn Authorize,
    /// Whose rights.
    pub user: Rc<User>,
}

impl fmt::Debug for Authz<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authz").field(&self.user.name).finish()
    }
}

/// What is being asked, as far as it is said.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    authz: Authz<'a>,
    /// Everything but the verb.
    pub attributes: Attributes,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Path,
    Group,
    Resource,
}

impl<'a> Check<'a> {
    /// The check of the request's own resource, `authorizer.requestResource`.
    #[must_use]
    pub const fn of_request(authz: Authz<'a>, attributes: Attributes) -> Self {
        Self { authz, attributes, stage: Stage::Resource }
    }

    /// The name of its type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    allowed: bool,
}

const REFINE: &[&str] = &["kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"];

pub(super) const DEFS: &[Def] = &[
    def("path", &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck"], path, Cost::One),
    def("group", &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck"], group, Cost::One),
    def(
        "serviceAccount",
        &["kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer"],
        service_account,
        Cost::One,
    ),
    def("resource", &["kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck"], resource, Cost::One),
    def("subresource", REFINE, |a, _| refine(a, |at, v| at.subresource = v), Cost::One),
    def("namespace", REFINE, |a, _| refine(a, |at, v| at.namespace = v), Cost::One),
    def("name", REFINE, |a, _| refine(a, |at, v| at.name = v), Cost::One),
    def("fieldSelector", REFINE, |a, _| refine(a, field_selector), Cost::One),
    // No authorizer here looks at labels: the check without the selector is the stricter one.
    def("labelSelector", REFINE, |a, _| refine(a, |_, _| {}), Cost::One),
    def(
        "check",
        &[
            "kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision",
            "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
        ],
        check,
        Cost::Check,
    ),
    def("allowed", &["kubernetes.authorization.Decision.() bool"], |a, _| decided(a, |d| Val::Bool(d.allowed)), Cost::One),
    def("reason", &["kubernetes.authorization.Decision.() string"], |a, _| decided(a, |_| Val::str("")), Cost::One),
    // The authorizers here cannot fail.
    def("errored", &["kubernetes.authorization.Decision.() bool"], |a, _| decided(a, |_| Val::Bool(false)), Cost::One),
    def("error", &["kubernetes.authorization.Decision.() string"], |a, _| decided(a, |_| Val::str("")), Cost::One),
];

fn made<'a>(check: Check<'a>) -> Out<'a> {
    Ok(Val::Opaque(Opaque::Check(check.into())))
}

fn path<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Opaque(Opaque::Authorizer(authz)), Val::Str(path)] = args else { return no_overload() };
    if path.trim().is_empty() {
        return fail("path must not be empty");
    }
    let attributes = Attributes { path: path.to_string(), ..Attributes::default() };
    made(Check { authz: authz.clone(), attributes, stage: Stage::Path })
}

fn group<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Opaque(Opaque::Authorizer(authz)), Val::Str(group)] = args else { return no_overload() };
    let attributes = Attributes { group: group.to_string(), ..Attributes::default() };
    made(Check { authz: authz.clone(), attributes, stage: Stage::Group })
}

fn service_account<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Opaque(Opaque::Authorizer(authz)), Val::Str(namespace), Val::Str(name)] = args else { return no_overload() };
    if !api::names::dns1123_subdomain(name).is_empty() {
        return fail(format!("Invalid service account name {name:?}", name = &name[..]));
    }
    if !api::names::dns1123_label(namespace).is_empty() {
        return fail(format!("Invalid service account namespace {namespace:?}", namespace = &namespace[..]));
    }
    let user = User {
        name: format!("system:serviceaccount:{}:{}", &namespace[..], &name[..]),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", &namespace[..]),
            "system:authenticated".to_owned(),
        ],
        ..User::default()
    };
    Ok(Val::Opaque(Opaque::Authorizer(Authz { judge: authz.judge, user: user.into() })))
}

fn resource<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Check(check)), Val::Str(name)] if check.stage == Stage::Group => {
            if name.trim().is_empty() {
                return fail("resource must not be empty");
            }
            let attributes = Attributes { resource: name.to_string(), version: "*".to_owned(), ..check.attributes.clone() };
            made(Check { authz: check.authz.clone(), attributes, stage: Stage::Resource })
        }
        _ => no_overload(),
    }
}

fn refine<'a>(args: &[Val<'a>], f: fn(&mut Attributes, String)) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Check(check)), Val::Str(value)] if check.stage == Stage::Resource => {
            let mut check = (**check).clone();
            f(&mut check.attributes, value.to_string());
            made(check)
        }
        _ => no_overload(),
    }
}

/// The one requirement that an authorizer looks at: which node.
fn field_selector(attributes: &mut Attributes, selector: String) {
    for part in selector.split(',') {
        let (field, value) = part.split_once("==").or_else(|| part.split_once('=')).unwrap_or((part, ""));
        if field == "spec.nodeName" {
            value.clone_into(&mut attributes.node_name);
        }
    }
}

fn check<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Check(check)), Val::Str(verb)] if check.stage != Stage::Group => {
            let attributes = Attributes { verb: verb.to_string(), ..check.attributes.clone() };
            let allowed = check.authz.judge.allows(&check.authz.user, &attributes);
            Ok(Val::Opaque(Opaque::Decision(Decision { allowed })))
        }
        _ => no_overload(),
    }
}

fn decided<'a>(args: &[Val<'a>], f: fn(Decision) -> Val<'a>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Decision(decision))] => Ok(f(*decision)),
        _ => no_overload(),
    }
}
