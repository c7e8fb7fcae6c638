//! Mutating webhooks: one after the other, each seeing what those before it did; those that want to are asked a second time when later ones
//! changed the object.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::status::Status;
use serde_json::Value;

use super::call::{self, Asking};
use super::configuration::Hook;
use crate::admission::pass::Admission;
use crate::apply::json_patch;

/// Who is to be asked, in the first turn and in the second. There is no third.
#[derive(Debug, Default)]
pub struct Turn {
    second: bool,
    /// Webhooks that were asked and want to know of later changes.
    asked: BTreeSet<String>,
    /// Those of them after which something changed.
    wanted: BTreeSet<String>,
    /// Whether anything was changed.
    changed: bool,
    /// What the last webhook of a turn left.
    left: Option<Value>,
}

impl Turn {
    /// Begins the second turn, if there is to be one: when a webhook changed something, which steps may want to look at.
    pub fn again(&mut self) -> bool {
        self.second = self.changed;
        self.second
    }

    /// When steps changed what the webhooks left, all that want to know of changes are to be asked.
    fn begin(&mut self, obj: &Value) {
        if self.second && self.left.as_ref() != Some(obj) {
            self.wanted.append(&mut self.asked);
        }
    }

    fn skips(&self, hook: &Hook) -> bool {
        self.second && !self.wanted.contains(&hook.id)
    }

    fn was_asked(&mut self, hook: &Hook, changed: bool) {
        if changed {
            self.wanted.append(&mut self.asked);
            self.changed = true;
        }
        if hook.again {
            self.asked.insert(hook.id.clone());
        }
    }

    fn end(&mut self, obj: &Value) {
        self.left = self.changed.then(|| obj.clone());
    }
}

/// Lets webhooks change an object.
///
/// # Errors
/// One that says no, or that could not be asked and whose policy is to fail.
pub async fn run(
    admission: &Admission<'_>,
    hooks: &[Arc<Hook>],
    turn: &mut Turn,
    obj: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let Some(asking) = Asking::new(admission, obj) else { return Ok(()) };
    turn.begin(obj);
    for hook in hooks {
        if turn.skips(hook) {
            continue;
        }
        let Some(seen) = asking.concerns(hook, obj).await? else { continue };
        let shown = asking.shown(&seen, obj).await?;
        let old = asking.shown(&seen, admission.old.unwrap_or(&Value::Null)).await?;
        let Some(mut answer) = asking.ask(hook, &seen, &shown, &old, true).await? else { continue };
        asking.note(hook, &mut answer, warnings);
        if let Some(status) = answer.denied {
            return Err(status);
        }
        let mut changed = false;
        if let Some(patch) = answer.patch {
            let patched = patched(hook, &shown, &patch)?;
            changed = patched != shown;
            if changed {
                *obj = asking.taken(&seen, patched).await?;
                call::stays(admission, obj)?;
            }
        }
        turn.was_asked(hook, changed);
    }
    turn.end(obj);
    Ok(())
}

/// The object after a webhook's patch.
fn patched(hook: &Hook, object: &Value, patch: &Value) -> Result<Value, Status> {
    if object.is_null() {
        let why = "attempted to modify the object, which is not supported for this operation";
        return Err(Status::internal(format!("admission webhook {:?} {why}", hook.name)));
    }
    json_patch::apply(object, patch).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(id: &str, again: bool) -> Hook {
        let policy = if again { "IfNeeded" } else { "Never" };
        Hook::parse("c", &json!({"name": id, "reinvocationPolicy": policy}))
    }

    /// Webhooks as name, whether they want to be asked again, whether they change something; the names of the second turn. `steps` change
    /// something in between.
    #[track_caller]
    fn check(hooks: &[(&str, bool, bool)], steps: bool, expected: &[&str]) {
        let mut turn = Turn::default();
        let obj = json!({"a": 1});
        turn.begin(&obj);
        for (name, again, changes) in hooks {
            turn.was_asked(&hook(name, *again), *changes);
        }
        turn.end(&obj);
        let mut second = vec![];
        if turn.again() {
            turn.begin(&if steps { json!({"a": 2}) } else { obj });
            second = hooks.iter().filter(|(name, again, _)| !turn.skips(&hook(name, *again))).map(|(name, ..)| *name).collect();
        }
        assert_eq!(second, expected);
    }

    #[test]
    fn those_before_a_change_are_asked_again_when_they_want_to() {
        check(&[("a", true, false), ("b", false, true)], false, &["a"]);
        check(&[("a", false, false), ("b", false, true)], false, &[]);
        check(&[("a", true, false), ("b", true, false)], false, &[]);
        check(&[("a", true, true), ("b", true, true), ("c", true, false)], false, &["a"]);
    }

    #[test]
    fn a_change_by_steps_makes_all_of_them_be_asked_again() {
        check(&[("a", true, true), ("b", true, false)], true, &["a", "b"]);
        check(&[("a", false, true)], true, &[]);
    }

    #[test]
    fn what_goes_cannot_be_patched() {
        let status = patched(&hook("h", false), &Value::Null, &json!([{"op": "remove", "path": "/a"}])).unwrap_err();
        let expected =
            r#"Internal error occurred: admission webhook "h" attempted to modify the object, which is not supported for this operation"#;
        assert_eq!((status.code, status.message.as_str()), (500, expected));
    }
}
