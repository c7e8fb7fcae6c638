//! Validating webhooks: all at once. Each sees the object as it will be stored.

use std::sync::Arc;

use api::status::Status;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use super::call::Asking;
use super::configuration::Hook;
use crate::admission::matching::Seen;
use crate::admission::pass::Admission;

/// Lets webhooks look at a request.
///
/// # Errors
/// The first to say no, or that could not be asked and whose policy is to fail.
pub async fn run(admission: &Admission<'_>, hooks: &[Arc<Hook>], obj: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    let Some(asking) = Asking::new(admission, obj) else { return Ok(()) };
    let mut forms: Vec<(Seen, Value, Value)> = vec![];
    let mut concerned: Vec<(&Hook, usize)> = vec![];
    for hook in hooks {
        let Some(seen) = asking.concerns(hook, obj).await? else { continue };
        let form = match forms.iter().position(|(s, ..)| *s == seen) {
            Some(form) => form,
            None => {
                let shown = asking.shown(&seen, obj).await?;
                let old = asking.shown(&seen, admission.old.unwrap_or(&Value::Null)).await?;
                forms.push((seen, shown, old));
                forms.len() - 1
            }
        };
        concerned.push((hook, form));
    }
    let (asking, forms) = (&asking, &forms);
    let mut asked: FuturesUnordered<_> = concerned
        .into_iter()
        .map(|(hook, form)| async move {
            let (seen, shown, old) = &forms[form];
            (hook, asking.ask(hook, seen, shown, old, false).await)
        })
        .collect();
    let mut first = None;
    while let Some((hook, outcome)) = asked.next().await {
        let refused = match outcome {
            Ok(None) => None,
            Ok(Some(mut answer)) => {
                asking.note(hook, &mut answer, warnings);
                answer.denied
            }
            Err(status) => Some(status),
        };
        first = first.or(refused);
    }
    first.map_or(Ok(()), Err)
}
