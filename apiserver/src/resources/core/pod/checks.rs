//! How this folder's tests ask what is wrong with a pod.

use expect_test::Expect;

use super::row;
use crate::resources::rows_in_tests::errors;

/// What is wrong with a pod of this spec.
#[track_caller]
pub(super) fn check(spec: &str, expected: Expect) {
    expected.assert_eq(&errors(row(), &format!("{{metadata: {{name: a, namespace: x}}, spec: {{{spec}}}}}")));
}

/// What is wrong with a pod of one container.
#[track_caller]
pub(super) fn check_container(container: &str, expected: Expect) {
    check(&format!("containers: [{{name: c, image: i, {container}}}]"), expected);
}

/// What is wrong with a pod of these volumes.
#[track_caller]
pub(super) fn check_volumes(volumes: &str, expected: Expect) {
    check(&format!("containers: [{{name: c, image: i}}], volumes: {volumes}"), expected);
}
