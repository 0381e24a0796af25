//! Where leases lie.

use gpupin_device::Kind;
use gpupin_run::lease::Scope;

use super::{Found, Patient};
use crate::state;

pub(super) fn check(_: &Patient, found: &mut Found) {
    const NAME: &str = "directory";
    match state::leases(Kind::Measured) {
        Ok(directory) => {
            let path = directory.path().display();
            match directory.scope() {
                Scope::Machine => found.ok(NAME, format!("`{path}`, shared by all users")),
                Scope::User => found.ok(
                    NAME,
                    format!(
                        "`{path}`, of this user: programs of other users do not wait for its leases"
                    ),
                ),
            }
        }
        Err(failure) => {
            let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
            let advice =
                "nobody can hold a GPU until it is usable; `GPUPIN_STATE_DIR` names another";
            found.problem(NAME, lines.join(": "), advice);
        }
    }
}
