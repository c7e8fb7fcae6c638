//! The row type: everything the engine knows about a resource.
//!
//! Data first, behaviour last. Built-in rows stand in [`crate::resources`]; a CustomResourceDefinition makes the same type at run
//! time. Routes, discovery, OpenAPI, tables, selectors, storage keys and the tests over all rows are derived from it. Hooks are
//! pure and synchronous and cannot see the store: what needs another object is an admission step, what takes a value out of
//! a pool is [`Resource::reserve`].

use std::borrow::Cow;
use std::sync::Arc;

use api::field::Errors;
use api::schema::Schema;
use api::status::Status;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::auth::User;

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

/// How a table cell is got from an object.
#[derive(Clone)]
pub enum Cell {
    /// The value at a JSON pointer.
    Pointer(Str),
    /// The integer at a JSON pointer, 0 when there is none: the table says so where the object leaves it out.
    PointerOrZero(Str),
    /// Computed from the object at a time.
    Compute(fn(&Value, Timestamp) -> Value),
    /// The time since the timestamp at a JSON pointer.
    Age(Str),
    /// The value found by a custom resource's JSONPath.
    JsonPath(Str),
}

/// A column of `kubectl get`.
#[derive(Clone)]
pub struct Column {
    /// Heading.
    pub name: Str,
    /// OpenAPI type: string, integer, number, boolean, date.
    pub kind: Str,
    /// OpenAPI format; `name` for the object's name.
    pub format: Str,
    /// For people.
    pub description: Str,
    /// 0 always, above that with `-o wide`.
    pub priority: i32,
    /// The content.
    pub cell: Cell,
}

impl Column {
    fn new(name: &'static str, kind: &'static str, cell: Cell) -> Self {
        let description = Str::Borrowed("");
        Self { name: name.into(), kind: kind.into(), format: "".into(), description, priority: 0, cell }
    }
    /// The object's name.
    #[must_use]
    pub fn name() -> Self {
        Self { format: "name".into(), ..Self::new("Name", "string", Cell::Pointer("/metadata/name".into())) }
    }
    /// The time since the object was made.
    #[must_use]
    pub fn age() -> Self {
        Self::new("Age", "string", Cell::Age("/metadata/creationTimestamp".into()))
    }
    /// Text at a pointer.
    #[must_use]
    pub fn text(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "string", Cell::Pointer(pointer.into()))
    }
    /// An integer at a pointer.
    #[must_use]
    pub fn integer(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "integer", Cell::Pointer(pointer.into()))
    }
    /// An integer at a pointer, shown as 0 when it is not there.
    #[must_use]
    pub fn integer_or_zero(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "integer", Cell::PointerOrZero(pointer.into()))
    }
    /// Text computed from the object.
    #[must_use]
    pub fn compute(name: &'static str, f: fn(&Value, Timestamp) -> Value) -> Self {
        Self::new(name, "string", Cell::Compute(f))
    }
    /// Shown with `-o wide` only.
    #[must_use]
    pub fn wide(self) -> Self {
        Self { priority: 1, ..self }
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

/// How objects of this version relate to what is stored, when another version is stored.
///
/// Rules and columns are of the *stored* form: the engine converts a body before rules run, and converts back only what is shown. The row's
/// selectable fields stand in the order of the stored row's, with pointers into the stored form, which is what the cache holds.
#[derive(Clone)]
pub struct Conversion {
    /// From this version's form to the stored one.
    pub to_stored: Arc<dyn Fn(Value) -> Result<Value, Status> + Send + Sync>,
    /// From the stored form to this version's.
    pub from_stored: Arc<dyn Fn(Value) -> Result<Value, Status> + Send + Sync>,
}

/// What a hook may know besides the object.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// Who makes it.
    pub user: &'a User,
}

/// How an object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// At once, unless `metadata.finalizers` hold it.
    Now,
    /// After so many seconds, or when its keeper says so by deleting it with grace period 0.
    Graceful(i64),
    /// When the object's own finalizers (a namespace's `spec.finalizers`) are gone.
    Finalized,
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
        self.subresources.push(Subresource::Part { name: name.into(), pointers });
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
        self.conversion = Some(Conversion { to_stored, from_stored });
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
        self.hooks = Arc::new(Typed { rules, kind: std::marker::PhantomData::<fn() -> K> });
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

/// The rules of a kind over JSON trees: what the verbs call. Every method is pure.
///
/// An `Err` of the decoding kind means that the tree does not fit the kind's type; its text is the decoder's.
pub trait Strategy: Send + Sync {
    /// Fills in what the client may leave out.
    fn default(&self, obj: &mut Value) -> Result<(), String>;
    /// Clears what a client may not set and sets what the server sets, then checks.
    fn create(&self, obj: &mut Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// As `create`, for a change of the whole object.
    fn update(&self, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// As `update`, for a change of `status` or another part.
    fn update_part(&self, part: &str, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// What the client should be told though it is no error.
    fn warnings(&self, obj: &Value) -> Vec<String>;
    /// How the object goes, marking it when it goes slowly. `requested` is the client's grace period.
    fn deletion(&self, obj: &mut Value, requested: Option<i64>, cx: Cx<'_>) -> Result<Deletion, String>;
}

/// The rules of a kind over its type: what a row's author writes. Every method has a default that does nothing.
#[allow(unused_variables)]
pub trait Rules<K>: Send + Sync + 'static {
    /// Fills in what the client may leave out. Runs on each write, also on objects that are stored already.
    fn default(&self, obj: &mut K) {}
    /// Before an object is created: clears what the client may not set (such as `status`).
    fn prepare_create(&self, obj: &mut K, cx: Cx<'_>) {}
    /// Before an object is changed: puts back what the client may not change.
    fn prepare_update(&self, new: &mut K, old: &K, cx: Cx<'_>) {}
    /// Checks an object on its own; on create and on update.
    fn validate(&self, obj: &K, errors: &mut Errors) {}
    /// Checks what must hold on create alone.
    fn validate_create(&self, obj: &K, errors: &mut Errors) {}
    /// Checks a change.
    fn validate_update(&self, new: &K, old: &K, errors: &mut Errors) {}
    /// Before `status` or another part is changed: puts back what that may not change beyond the part.
    fn prepare_part(&self, part: &str, new: &mut K, old: &K, cx: Cx<'_>) {}
    /// Checks a change of `status` or another part.
    fn validate_part(&self, part: &str, new: &K, old: &K, errors: &mut Errors) {}
    /// What the client should be told though it is no error.
    fn warnings(&self, obj: &K) -> Vec<String> {
        vec![]
    }
    /// How the object goes.
    fn deletion(&self, obj: &mut K, requested: Option<i64>, cx: Cx<'_>) -> Deletion {
        Deletion::Now
    }
}

/// Rules of a kind that has none, over its type: the shape alone is checked.
impl<K> Rules<K> for () {}

struct Typed<K, R> {
    rules: R,
    kind: std::marker::PhantomData<fn() -> K>,
}

fn decode<K: DeserializeOwned>(tree: &Value) -> Result<K, String> {
    K::deserialize(tree).map_err(|e| e.to_string())
}

impl<K: Serialize + DeserializeOwned, R: Rules<K>> Typed<K, R> {
    /// Puts the typed form back. Types know everything of a built-in kind; `metadata` stays the tree's own but for what rules changed.
    fn put(tree: &mut Value, typed: &K) -> Result<(), String> {
        *tree = serde_json::to_value(typed).map_err(|e| e.to_string())?;
        Ok(())
    }
}

impl<K, R> Strategy for Typed<K, R>
where
    K: Serialize + DeserializeOwned + Send + Sync,
    R: Rules<K>,
{
    fn default(&self, obj: &mut Value) -> Result<(), String> {
        let mut k: K = decode(obj)?;
        self.rules.default(&mut k);
        Self::put(obj, &k)
    }
    fn create(&self, obj: &mut Value, cx: Cx<'_>) -> Result<Errors, String> {
        let mut k: K = decode(obj)?;
        self.rules.prepare_create(&mut k, cx);
        let mut errors = Errors::new();
        self.rules.validate(&k, &mut errors);
        self.rules.validate_create(&k, &mut errors);
        Self::put(obj, &k)?;
        Ok(errors)
    }
    fn update(&self, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        let (mut k, old): (K, K) = (decode(new)?, decode(old)?);
        self.rules.prepare_update(&mut k, &old, cx);
        let mut errors = Errors::new();
        self.rules.validate(&k, &mut errors);
        self.rules.validate_update(&k, &old, &mut errors);
        Self::put(new, &k)?;
        Ok(errors)
    }
    fn update_part(&self, part: &str, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        let (mut k, old): (K, K) = (decode(new)?, decode(old)?);
        self.rules.prepare_part(part, &mut k, &old, cx);
        let mut errors = Errors::new();
        self.rules.validate_part(part, &k, &old, &mut errors);
        Self::put(new, &k)?;
        Ok(errors)
    }
    fn warnings(&self, obj: &Value) -> Vec<String> {
        decode::<K>(obj).map(|k| self.rules.warnings(&k)).unwrap_or_default()
    }
    fn deletion(&self, obj: &mut Value, requested: Option<i64>, cx: Cx<'_>) -> Result<Deletion, String> {
        let mut k: K = decode(obj)?;
        let how = self.rules.deletion(&mut k, requested, cx);
        Self::put(obj, &k)?;
        Ok(how)
    }
}

/// Rules of a kind without a type.
pub struct NoRules;

impl Strategy for NoRules {
    fn default(&self, _: &mut Value) -> Result<(), String> {
        Ok(())
    }
    fn create(&self, _: &mut Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn update(&self, _: &mut Value, _: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn update_part(&self, _: &str, _: &mut Value, _: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn warnings(&self, _: &Value) -> Vec<String> {
        vec![]
    }
    fn deletion(&self, _: &mut Value, _: Option<i64>, _: Cx<'_>) -> Result<Deletion, String> {
        Ok(Deletion::Now)
    }
}
