//! FlowSchemas and PriorityLevelConfigurations as objects, compiled into what requests are matched with. Pure.
//!
//! The system's own objects are always among them, so that a request finds a schema even before anything was read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// How requests of a schema are told apart into flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    /// One flow for all.
    None,
    /// One for each user.
    User,
    /// One for each namespace.
    Namespace,
}

/// A FlowSchema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid; empty for one that is not stored yet.
    pub uid: String,
    /// The level of its requests.
    pub level: Arc<str>,
    /// Lower ones are looked at first.
    pub precedence: i64,
    /// Its flows.
    pub distinguisher: Distinguisher,
    /// A request belongs to it when it matches any of these.
    pub rules: Vec<Rule>,
}

/// Who, and what they ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Any of these.
    pub subjects: Vec<Subject>,
    /// Requests about resources.
    pub resources: Vec<ResourceRule>,
    /// Requests about other paths.
    pub paths: Vec<PathRule>,
}

/// A user, a group, or a service account; `*` stands for any of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A user by name.
    User(String),
    /// A group by name.
    Group(String),
    /// A service account by namespace and name.
    ServiceAccount(String, String),
}

/// Requests about resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceRule {
    /// Verbs or `*`.
    pub verbs: Vec<String>,
    /// Groups or `*`.
    pub groups: Vec<String>,
    /// `pods`, `pods/log` or `*`.
    pub resources: Vec<String>,
    /// Whether requests without a namespace match.
    pub cluster_scope: bool,
    /// Namespaces or `*`.
    pub namespaces: Vec<String>,
}

/// Requests about other paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathRule {
    /// Verbs or `*`.
    pub verbs: Vec<String>,
    /// Paths, `*` at the end for all below.
    pub paths: Vec<String>,
}

/// What a level does with a request that cannot run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// It is refused.
    Reject,
    /// It waits, in one of so many queues.
    Queue {
        /// How many queues there are.
        queues: usize,
        /// Among how many of them a flow chooses.
        hand: usize,
        /// How many may wait in one.
        length: usize,
    },
}

/// A PriorityLevelConfiguration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its uid; empty for one that is not stored yet.
    pub uid: String,
    /// Nothing is limited.
    pub exempt: bool,
    /// Its share of the seats.
    pub shares: u64,
    /// Percent of its seats that others may use while it does not.
    pub lendable: u64,
    /// Percent of its seats that it may use of others' besides; nothing: as many as there are.
    pub borrowing: Option<u64>,
    /// What happens to what cannot run at once.
    pub response: Response,
}

/// Everything that requests are classified by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// In the order in which they are looked at.
    pub schemas: Vec<Schema>,
    /// By name.
    pub levels: BTreeMap<Arc<str>, Level>,
}

/// The most queues of a level (upstream's bound of the field); a definition that asks for more was not let in.
const QUEUES_MAX: u64 = 10_000_000;

fn text(v: &Value, pointer: &str) -> String {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn texts(v: &Value, field: &str) -> Vec<String> {
    v.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn list<'a>(v: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    v.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn number(v: &Value, pointer: &str) -> Option<u64> {
    v.pointer(pointer).and_then(Value::as_u64)
}

impl Config {
    /// Compiles objects; of two with the same name the later counts. A schema whose level is not there is left out.
    #[must_use]
    pub fn compile<'a>(schemas: impl Iterator<Item = &'a Value>, levels: impl Iterator<Item = &'a Value>) -> Self {
        let levels: BTreeMap<Arc<str>, Level> = levels.map(|l| (text(l, "/metadata/name").into(), level(l))).collect();
        let schemas: BTreeMap<String, Schema> = schemas.map(|s| (text(s, "/metadata/name"), schema(s))).collect();
        let mut schemas: Vec<Schema> = schemas.into_values().filter(|s| levels.contains_key(&s.level)).collect();
        // Of the same precedence, the name decides: they are in that order already, and the sort is stable.
        schemas.sort_by_key(|s| s.precedence);
        Self { schemas, levels }
    }
}

fn level(object: &Value) -> Level {
    let exempt = text(object, "/spec/type") == "Exempt";
    let at = if exempt { "/spec/exempt" } else { "/spec/limited" };
    let of = |field: &str| number(object, &format!("{at}/{field}"));
    let queuing = |field: &str, default: u64| {
        let n = number(object, &format!("/spec/limited/limitResponse/queuing/{field}")).unwrap_or(default);
        usize::try_from(n.clamp(1, QUEUES_MAX)).unwrap_or(1)
    };
    let response = match text(object, "/spec/limited/limitResponse/type").as_str() {
        "Queue" => {
            let queues = queuing("queues", 64);
            Response::Queue { queues, hand: queuing("handSize", 8).min(queues), length: queuing("queueLengthLimit", 50) }
        }
        _ => Response::Reject,
    };
    Level {
        uid: text(object, "/metadata/uid"),
        exempt,
        shares: of("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
        lendable: of("lendablePercent").unwrap_or(0).min(100),
        borrowing: of("borrowingLimitPercent"),
        response,
    }
}

fn schema(object: &Value) -> Schema {
    Schema {
        name: text(object, "/metadata/name").into(),
        uid: text(object, "/metadata/uid"),
        level: text(object, "/spec/priorityLevelConfiguration/name").into(),
        precedence: object.pointer("/spec/matchingPrecedence").and_then(Value::as_i64).unwrap_or(1_000),
        distinguisher: match text(object, "/spec/distinguisherMethod/type").as_str() {
            "ByUser" => Distinguisher::User,
            "ByNamespace" => Distinguisher::Namespace,
            _ => Distinguisher::None,
        },
        rules: list(object, "/spec/rules").map(rule).collect(),
    }
}

fn rule(rule: &Value) -> Rule {
    let subjects = list(rule, "/subjects").filter_map(|s| match s["kind"].as_str()? {
        "User" => Some(Subject::User(text(s, "/user/name"))),
        "Group" => Some(Subject::Group(text(s, "/group/name"))),
        "ServiceAccount" => Some(Subject::ServiceAccount(text(s, "/serviceAccount/namespace"), text(s, "/serviceAccount/name"))),
        _ => None,
    });
    let resources = list(rule, "/resourceRules").map(|r| ResourceRule {
        verbs: texts(r, "verbs"),
        groups: texts(r, "apiGroups"),
        resources: texts(r, "resources"),
        cluster_scope: r["clusterScope"] == true,
        namespaces: texts(r, "namespaces"),
    });
    let paths = list(rule, "/nonResourceRules").map(|r| PathRule { verbs: texts(r, "verbs"), paths: texts(r, "nonResourceURLs") });
    Rule { subjects: subjects.collect(), resources: resources.collect(), paths: paths.collect() }
}
