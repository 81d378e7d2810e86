//! Takes the ports of closed sandboxes out of the firewall, off the caller's path: the kernel waits some 7 ms for the end
//! of a grace period in such a transaction, however many elements it has.

use std::sync::{Arc, PoisonError};
use std::thread;

use cais_sys::failpoint;

use crate::error::NetworkError;
use crate::firewall::{Policy, port_changes};
use crate::netlink::Socket;
use crate::nft::{self, Change};

use super::endpoints::release;
use super::{Held, Shared, State, Store, replace_tables};

impl Store {
    /// Releases what a sandbox held: at once, or when its ports are out of the firewall.
    pub(super) fn let_go(&self, state: &mut State, held: Held) {
        if !self.config.firewall || held.rules.is_empty() {
            release(state, &held.record.endpoints);
            return;
        }
        state.closing.push(held);
        if state.sweeping {
            return;
        }
        state.sweeping = true;
        let (shared, table) = (Arc::clone(&self.shared), self.config.table.clone());
        let policy = self.policy.clone();
        thread::spawn(move || sweep(&shared, &table, &policy));
    }

    /// Changes elements of the tables' sets in one transaction, if there are tables.
    pub(super) fn change(&self, changes: &[Change]) -> Result<(), NetworkError> {
        if !self.config.firewall || changes.is_empty() {
            return Ok(());
        }
        change(&self.config.table, changes)
    }

    /// Waits until everything that was closed is released.
    pub fn settle(&self) {
        let mut state = self.lock();
        while !state.closing.is_empty() {
            let waiting = self.shared.released.wait(state);
            state = waiting.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One transaction for all that are waiting, until none is.
fn sweep(shared: &Shared, table: &str, policy: &Policy) {
    let mut state = shared.lock();
    while !state.closing.is_empty() {
        let count = state.closing.len();
        let rules: Vec<_> = state
            .closing
            .iter()
            .flat_map(|held| held.rules.clone())
            .collect();
        drop(state);
        failpoint::reach("close-published");
        let removed = change(table, &port_changes(&rules, &[], policy));
        failpoint::reach("close-unpublished");
        state = shared.lock();
        // A port that was not in the table (a start that failed, a table made anew) undoes the whole transaction.
        let removed = removed.or_else(|_| replace_tables(&state, table, policy));
        if let Err(error) = removed {
            tracing::error!(%error, "ports of closed containers stay in the firewall");
        }
        let done: Vec<Held> = state.closing.drain(..count).collect();
        for held in &done {
            release(&mut state, &held.record.endpoints);
        }
        drop(done);
        shared.released.notify_all();
    }
    state.sweeping = false;
}

/// Changes elements of the tables' sets in one transaction.
fn change(table: &str, changes: &[Change]) -> Result<(), NetworkError> {
    let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
    nft::apply(&socket, table, changes).map_err(NetworkError::firewall)
}
