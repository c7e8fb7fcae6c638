//! One pass of admission over a request: steps, webhooks, quotas, in upstream's order. The IO of admission is here and in [`webhooks`].

use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use serde_json::Value;

use super::webhooks::{self, mutate::Turn};
use super::{Attributes, Charge, Notes, Operation, Step, chain};
use crate::storage::{Expect, Outcome, keys};
use crate::verbs::options::DeleteOptions;
use crate::verbs::{Call, write};

/// How often a quota that changed meanwhile is charged again.
const CHARGES: usize = 10;

/// One pass of admission over a request.
#[derive(Clone, Copy)]
pub struct Admission<'a> {
    /// The request.
    pub call: &'a Call,
    /// What it does.
    pub operation: Operation,
    /// The subresource; empty for the whole object.
    pub part: &'a str,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of a deletion, for webhooks to see.
    pub deletion: Option<&'a DeleteOptions>,
}

impl<'a> Admission<'a> {
    /// A pass over something that is made or connected to.
    #[must_use]
    pub fn new(call: &'a Call, operation: Operation, part: &'a str, dry_run: bool) -> Self {
        Self { call, operation, part, old: None, dry_run, deletion: None }
    }

    /// The object's name: the one in it, that of what goes, or else the one in the URL.
    pub(super) fn name(&self, obj: &Value) -> String {
        let old = self.old.map_or("", |o| o.name());
        [obj.name(), old].into_iter().find(|n| !n.is_empty()).unwrap_or(&self.call.info.name).to_owned()
    }

    fn attributes<'b>(&'b self, name: &'b str) -> Attributes<'b> {
        let call = self.call;
        Attributes {
            row: &call.row.resource,
            subresource: self.part,
            operation: self.operation,
            namespace: &call.info.namespace,
            name,
            user: &call.user,
            dry_run: self.dry_run,
            old: self.old,
            now: call.now,
            random: rand::random(),
        }
    }

    /// Lets the mutating steps and webhooks change an object. A step's refusal is believed only when the caches were fresh.
    ///
    /// # Errors
    /// A step or webhook that says no.
    pub async fn admit(&self, obj: &mut Value, warnings: &mut Vec<String>) -> Result<(), Status> {
        let hooks = self.call.server.webhooks.mutating(&self.call.server.hub);
        if hooks.is_empty() || webhooks::is_exempt(&self.call.row) {
            return self.steps(&[chain::BEFORE_WEBHOOKS, chain::AFTER_WEBHOOKS], obj).await;
        }
        let mut turn = Turn::default();
        self.steps(&[chain::BEFORE_WEBHOOKS], obj).await?;
        webhooks::mutate::run(self, &hooks, &mut turn, obj, warnings).await?;
        if turn.again() {
            self.steps(&[chain::BEFORE_WEBHOOKS], obj).await?;
            webhooks::mutate::run(self, &hooks, &mut turn, obj, warnings).await?;
        }
        self.steps(&[chain::AFTER_WEBHOOKS], obj).await
    }

    async fn steps(&self, lists: &[&[&dyn Step]], obj: &mut Value) -> Result<(), Status> {
        // There is nothing to change in what goes.
        if obj.is_null() {
            return Ok(());
        }
        let name = self.name(obj);
        let attempt = |obj: &mut Value| {
            let at = self.attributes(&name);
            lists.iter().try_for_each(|steps| chain::admit(steps, &at, obj, &*self.call.server))
        };
        let before = obj.clone();
        match attempt(obj) {
            Ok(()) => Ok(()),
            Err(_) => {
                self.call.server.hub.fresh().await?;
                *obj = before;
                attempt(obj)
            }
        }
    }

    /// Lets the validating steps and webhooks look at a request, and charges quotas. A step's refusal is believed only when the caches were
    /// fresh.
    ///
    /// # Errors
    /// A step or webhook that says no.
    pub async fn validate(&self, obj: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
        warnings.extend(self.look(chain::BEFORE_WEBHOOKS, obj).await?.warnings);
        let hooks = self.call.server.webhooks.validating(&self.call.server.hub);
        if !hooks.is_empty() && !webhooks::is_exempt(&self.call.row) {
            webhooks::validate::run(self, &hooks, obj, warnings).await?;
        }
        for _ in 0..CHARGES {
            let notes = self.look(chain::AFTER_WEBHOOKS, obj).await?;
            if self.dry_run || self.charge(&notes.charges).await? {
                warnings.extend(notes.warnings);
                return Ok(());
            }
            self.call.server.hub.fresh().await?;
        }
        Err(Status::conflict("", "resourcequotas", &self.name(obj), "the quota changed too often; try again"))
    }

    async fn look(&self, steps: &[&dyn Step], obj: &Value) -> Result<Notes, Status> {
        let name = self.name(obj);
        let attempt = || {
            let (at, mut notes) = (self.attributes(&name), Notes::default());
            chain::validate(steps, &at, obj, &*self.call.server, &mut notes)?;
            Ok::<Notes, Status>(notes)
        };
        match attempt() {
            Ok(notes) => Ok(notes),
            Err(_) => {
                self.call.server.hub.fresh().await?;
                attempt()
            }
        }
    }

    /// Mutating and validating admission at once, for what is stored by other means or not at all.
    ///
    /// # Errors
    /// A step or webhook that says no.
    pub async fn run(&self, obj: &mut Value, warnings: &mut Vec<String>) -> Result<(), Status> {
        self.admit(obj, warnings).await?;
        self.validate(obj, warnings).await
    }

    /// Writes what is used of each quota; `false` when one of them was changed by another request.
    async fn charge(&self, charges: &[Charge]) -> Result<bool, Status> {
        let hub = &self.call.server.hub;
        for charge in charges {
            let rest = keys::rest(&charge.quota);
            let key = format!("/registry/resourcequotas/{rest}");
            let Some(entry) = hub.cache("/registry/resourcequotas/").get(&rest) else { return Ok(false) };
            let mut quota = entry.tree().map_err(Status::internal)?;
            if quota.resource_version() != charge.resource_version {
                return Ok(false);
            }
            quota["status"]["used"] = serde_json::json!(charge.used);
            let value = self.call.seal(&key, write::plain(&quota)?)?;
            match self.call.commit(&key, Expect::Revision(entry.revision), Some(value), &[]).await? {
                Outcome::Done(revision) => hub.reach(revision).await?,
                _ => return Ok(false),
            };
        }
        Ok(true)
    }

    /// The labels of the request's namespace, as webhooks select by them; `None` when it is not there.
    pub(super) async fn namespace(&self, name: &str) -> Result<Option<std::sync::Arc<crate::storage::Entry>>, Status> {
        let hub = &self.call.server.hub;
        let key = keys::rest(&ObjectKey::cluster(name));
        if let Some(entry) = hub.cache("/registry/namespaces/").get(&key) {
            return Ok(Some(entry));
        }
        hub.fresh().await?;
        Ok(hub.cache("/registry/namespaces/").get(&key))
    }
}
