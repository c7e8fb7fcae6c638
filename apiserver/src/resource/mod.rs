//! The row type: everything the engine knows about a resource.
//!
//! Data first, behaviour last. Built-in rows stand in [`crate::resources`]; a CustomResourceDefinition makes the same type at run
//! time. Routes, discovery, OpenAPI, tables, selectors, storage keys and the tests over all rows are derived from it. What its table
//! shows is in [`columns`], the rules of its kind in [`rules`]. What takes a value out of a pool is [`Resource::reserve`].

mod columns;
mod rules;

use std::borrow::Cow;
use std::sync::Arc;

use api::schema::Schema;
use api::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use columns::{Cell, Column};
pub use rules::{Cx, Deletion, NoRules, Rules, Strategy};

use crate::typed::Typed;

/// Text that is static for built-in rows and owned for custom ones.
pub type Str = Cow<'static, str>;

/// Where a resource's objects live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In no namespace.
    Cluster,
    /// In a namespace.
    Namespaced,
}

/// What may be done with a whole object of a resource, in discovery's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Self] =
        &[Self::Create, Self::Delete, Self::DeleteCollection, Self::Get, Self::List, Self::Patch, Self::Update, Self::Watch];

    /// The name in discovery and RBAC.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A part of an object with its own URL.
#[derive(Debug, Clone)]
pub enum Subresource {
    /// `/status`: writes touch `status` alone.
    Status,
    /// `/scale`, as JSON pointers into the object.
    Scale {
        /// Replicas asked for.
        spec: Str,
        /// Replicas there are.
        status: Str,
        /// Label selector: a string or a structured selector.
        selector: Option<Str>,
    },
    /// Another part of the object that is read and written like `status`: an update may change only what stands at these pointers.
    Part {
        /// Its name, such as `ephemeralcontainers`.
        name: Str,
        /// What a write may change.
        pointers: &'static [&'static str],
        /// Whether it is only replaced as a whole (PUT), and neither read nor patched.
        replaced_only: bool,
    },
    /// Served by a handler of its own (`connect/`), such as `log` or `binding`.
    Custom {
        /// Its name.
        name: Str,
        /// The group, version and kind of its body.
        kind: (&'static str, &'static str, &'static str),
        /// The RBAC verbs it answers to.
        verbs: &'static [&'static str],
    },
}

impl Subresource {
    /// The name in the URL.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Status => "status",
            Self::Scale { .. } => "scale",
            Self::Part { name, .. } | Self::Custom { name, .. } => name,
        }
    }
}

/// A field that field selectors may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectable {
    /// The name in selectors, such as `spec.nodeName`.
    pub field: Str,
    /// Its place in the object, as a JSON pointer.
    pub pointer: Str,
    /// The value of an object that does not have it.
    pub absent: Str,
    /// The place that counts for an object that has nothing at `pointer`; empty for none.
    pub instead: Str,
}

/// When `metadata.generation` goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// With each change outside `metadata` and `status`.
    Spec,
    /// With each of those, and with each change of annotations (Deployment).
    SpecOrAnnotations,
}

/// A change of form.
pub type Convert = Arc<dyn Fn(Value) -> Result<Value, Status> + Send + Sync>;

/// How objects of this row relate to what is stored, when that may have another form.
///
/// Writes work on one form, the *worked* one, which rules, columns and admission steps know: the stored form where it is fixed, and the row's
/// own where each version has rules of its own.
#[derive(Clone)]
pub enum Conversion {
    /// The engine converts a body before rules run, and converts back only what is shown. The row's selectable fields stand in the order of
    /// the stored row's, with pointers into the stored form, which is what the cache holds.
    Fixed {
        /// From this version's form to the stored one.
        to_stored: Convert,
        /// From the stored form to this version's.
        from_stored: Convert,
    },
    /// Versions of a custom kind: what is read is brought into the row's form before anything else looks at it, what is written into the
    /// stored form last.
    Versions(Arc<crate::crd::convert::Versions>),
}

/// One row of the resource table.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: Str,
    /// API version.
    pub version: Str,
    /// Kind.
    pub kind: Str,
    /// Kind of a list of these.
    pub list_kind: Str,
    /// Name in URLs.
    pub plural: Str,
    /// Name of one.
    pub singular: Str,
    /// Short names for kubectl.
    pub short_names: Vec<Str>,
    /// Categories for kubectl, such as `all`.
    pub categories: Vec<Str>,
    /// Cluster or namespace.
    pub scope: Scope,
    /// What may be done with whole objects.
    pub verbs: Vec<Verb>,
    /// Parts with URLs of their own.
    pub subresources: Vec<Subresource>,
    /// Columns of `kubectl get`; the engine puts nothing before or after them.
    pub columns: Vec<Column>,
    /// Fields for field selectors, besides `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<Selectable>,
    /// When the generation goes up.
    pub generation: Generation,
    /// What is wrong with a name.
    pub name_rule: fn(&str) -> Vec<String>,
    /// Whether PUT to a name that does not exist creates it.
    pub create_on_update: bool,
    /// Whether an update may come without resourceVersion.
    pub unconditional_update: bool,
    /// Whether a deletion answers with the object that was removed, in place of a Status.
    pub returns_deleted: bool,
    /// Whether nothing is stored: a POST computes an answer (reviews).
    pub virtual_kind: bool,
    /// Group and plural under which objects are stored; differs from the row's own for a second version or group of a kind.
    pub stored_as: (Str, Str),
    /// The conversion to and from the stored form.
    pub conversion: Option<Conversion>,
    /// Seconds after which objects go by themselves (Events).
    pub ttl_seconds: Option<i64>,
    /// Takes values such as cluster IPs out of their pools.
    pub reserve: Option<Arc<dyn crate::allocate::Reserve>>,
    /// The schema of a custom resource; nothing for a built-in kind.
    pub schema: Option<Arc<CustomSchema>>,
    /// The rules of the kind.
    pub hooks: Arc<dyn Strategy>,
}

/// The schema of a custom resource's version.
#[derive(Debug)]
pub struct CustomSchema {
    /// What machinery walks beside objects.
    pub schema: Schema,
    /// As the definition has it.
    pub openapi: Arc<Value>,
}

impl Resource {
    fn new(scope: Scope, group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_ascii_lowercase().into(),
            short_names: vec![],
            categories: vec![],
            scope,
            verbs: Verb::ALL.to_vec(),
            subresources: vec![],
            columns: vec![Column::name(), Column::age()],
            selectable: vec![],
            generation: Generation::None,
            name_rule: api::names::dns1123_subdomain,
            create_on_update: false,
            unconditional_update: true,
            returns_deleted: false,
            virtual_kind: false,
            stored_as: (group.into(), plural.into()),
            conversion: None,
            ttl_seconds: None,
            reserve: None,
            schema: None,
            hooks: Arc::new(NoRules),
        }
    }
    /// A resource whose objects live in namespaces.
    #[must_use]
    pub fn namespaced(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self::new(Scope::Namespaced, group, version, kind, plural)
    }
    /// A resource whose objects live in no namespace.
    #[must_use]
    pub fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self::new(Scope::Cluster, group, version, kind, plural)
    }
    /// Short names for kubectl.
    #[must_use]
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|n| Str::Borrowed(*n)).collect();
        self
    }
    /// In `kubectl get all`.
    #[must_use]
    pub fn in_all(mut self) -> Self {
        self.categories = vec!["all".into()];
        self
    }
    /// In a category of kubectl's.
    #[must_use]
    pub fn category(mut self, name: &'static str) -> Self {
        self.categories.push(name.into());
        self
    }
    /// Has `/status`.
    #[must_use]
    pub fn status(mut self) -> Self {
        self.subresources.push(Subresource::Status);
        self
    }
    /// Has `/scale`.
    #[must_use]
    pub fn scale(mut self, spec: &'static str, status: &'static str, selector: &'static str) -> Self {
        self.subresources.push(Subresource::Scale { spec: spec.into(), status: status.into(), selector: Some(selector.into()) });
        self
    }
    /// Has a subresource that is a part of the object.
    #[must_use]
    pub fn part(mut self, name: &'static str, pointers: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource::Part { name: name.into(), pointers, replaced_only: false });
        self
    }
    /// Has a subresource that is a part of the object and is only replaced.
    #[must_use]
    pub fn replaced_part(mut self, name: &'static str, pointers: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource::Part { name: name.into(), pointers, replaced_only: true });
        self
    }
    /// Has a subresource with a handler of its own.
    #[must_use]
    pub fn custom(mut self, name: &'static str, kind: (&'static str, &'static str, &'static str), verbs: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource::Custom { name: name.into(), kind, verbs });
        self
    }
    /// Counts generations by changes outside metadata and status.
    #[must_use]
    pub fn generation(mut self) -> Self {
        self.generation = Generation::Spec;
        self
    }
    /// The columns of `kubectl get`.
    #[must_use]
    pub fn columns(mut self, columns: Vec<Column>) -> Self {
        self.columns = columns;
        self
    }
    /// Fields for selectors: the selector's name, which is also the path, and the value of objects without it.
    #[must_use]
    pub fn selectable(mut self, fields: &[(&'static str, &'static str)]) -> Self {
        let one = |(field, absent): &(&'static str, &'static str)| Selectable {
            field: (*field).into(),
            pointer: format!("/{}", field.replace('.', "/")).into(),
            absent: (*absent).into(),
            instead: "".into(),
        };
        self.selectable = fields.iter().map(one).collect();
        self
    }
    /// The rule for names.
    #[must_use]
    pub fn names(mut self, rule: fn(&str) -> Vec<String>) -> Self {
        self.name_rule = rule;
        self
    }
    /// PUT creates what is not there.
    #[must_use]
    pub fn create_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }
    /// A deletion answers with the object.
    #[must_use]
    pub fn returns_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }
    /// An update must come with resourceVersion.
    #[must_use]
    pub fn conditional_update(mut self) -> Self {
        self.unconditional_update = false;
        self
    }
    /// Only these verbs.
    #[must_use]
    pub fn only(mut self, verbs: &[Verb]) -> Self {
        self.verbs = verbs.to_vec();
        self
    }
    /// Nothing is stored; POST computes an answer.
    #[must_use]
    pub fn virtual_kind(mut self) -> Self {
        self.verbs = vec![Verb::Create];
        self.virtual_kind = true;
        self
    }
    /// Objects are stored under another group and plural, in another form.
    #[must_use]
    pub fn stored_as(mut self, group: &'static str, plural: &'static str, to: fn(Value) -> Value, from: fn(Value) -> Value) -> Self {
        self.stored_as = (group.into(), plural.into());
        let (to_stored, from_stored) = (Arc::new(move |v| Ok(to(v))), Arc::new(move |v| Ok(from(v))));
        self.conversion = Some(Conversion::Fixed { to_stored, from_stored });
        self
    }
    /// The rules of the row that is stored.
    #[must_use]
    pub fn rules_of(mut self, stored: &Self) -> Self {
        self.hooks = stored.hooks.clone();
        self
    }
    /// The kind's rules, written over its `k8s-openapi` type.
    #[must_use]
    pub fn rules<K>(mut self, rules: impl Rules<K>) -> Self
    where
        K: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.hooks = Arc::new(Typed::<K, _>::new(rules));
        self
    }

    /// `apps/v1` or `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api::object::api_version(&self.group, &self.version)
    }
    /// Whether objects live in namespaces.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
    /// The subresource of that name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name() == name)
    }
    /// Whether the kind separates `status`.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
    /// `pods` or `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        api::status::qualified(&self.group, &self.plural)
    }
    /// What lies between a custom kind's versions, when it has to be looked at.
    #[must_use]
    pub fn versions(&self) -> Option<&Arc<crate::crd::convert::Versions>> {
        match &self.conversion {
            Some(Conversion::Versions(versions)) => Some(versions),
            _ => None,
        }
    }
    /// The prefix of the keys of all objects, ending in `/`.
    #[must_use]
    pub fn storage_prefix(&self) -> String {
        match &self.stored_as {
            (group, plural) if group.is_empty() => format!("/registry/{plural}/"),
            (group, plural) => format!("/registry/{group}/{plural}/"),
        }
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}
