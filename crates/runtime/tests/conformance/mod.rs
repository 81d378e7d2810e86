//! The runtime's command line against the OCI runtime specification, seen with the kernel's eyes. `CAIS_RUNTIME_UNDER_TEST` names
//! another runtime to run the same list on; what an older one does not know is skipped with a reason.

mod bundle;
mod commands;
mod hooks;
mod lifecycle;
mod linux;
mod mounts;
mod process;
mod refusals;
mod terminal;

use bundle::Bundle;

/// Ends a test early on a runtime that is not ours.
macro_rules! only_ours {
    ($reason:literal) => {
        if !super::bundle::is_ours() {
            eprintln!("skipped: {}", $reason);
            return;
        }
    };
}
use only_ours;
