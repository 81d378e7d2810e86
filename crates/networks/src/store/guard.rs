//! Brings our tables back when somebody removes them, as `nft flush ruleset` does: a thread that sleeps until the kernel
//! tells of a change.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::error::NetworkError;
use crate::firewall::Policy;
use crate::netlink::Socket;
use crate::nft::{self, Changes};

use super::{Shared, replace_tables};

/// Guards as long as it lives.
#[derive(Debug)]
pub(super) struct Guard {
    quit: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

struct Watch {
    shared: Arc<Shared>,
    table: String,
    policy: Policy,
    changes: Changes,
    quit: Arc<OwnedFd>,
}

impl Guard {
    /// Guards the tables in the network namespace of the calling thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        table: String,
        policy: Policy,
    ) -> Result<Self, NetworkError> {
        let failed = NetworkError::during::<io::Error>;
        let quit = eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from);
        let quit = Arc::new(quit.map_err(failed("eventfd"))?);
        let watch = Watch {
            shared,
            table,
            policy,
            changes: Changes::open().map_err(failed("netfilter socket"))?,
            quit: Arc::clone(&quit),
        };
        let thread = thread::Builder::new().name("firewall".to_owned());
        let thread = thread.spawn(move || watch.run());
        Ok(Self {
            quit,
            thread: Some(thread.map_err(failed("thread of the firewall"))?),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&*self.quit, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(self) {
        // The tables may have gone before the socket was there.
        let mut removed = true;
        loop {
            if removed && let Err(error) = self.restore() {
                tracing::error!(%error, "the firewall table {} is missing", self.table);
            }
            match self.wait() {
                Ok(Some(told)) => removed = told,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "changes of the firewall are not seen any more");
                    return;
                }
            }
        }
    }

    /// Whether a table may have gone; nothing at the end.
    fn wait(&self) -> io::Result<Option<bool>> {
        let mut sources = [
            PollFd::new(&self.changes, PollFlags::IN),
            PollFd::new(&*self.quit, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        if !sources[1].revents().is_empty() {
            return Ok(None);
        }
        self.changes.removed(&self.table).map(Some)
    }

    /// Makes the tables anew if one is missing. Our own changes take the old away and bring the new in one transaction, so
    /// that none is missing then.
    fn restore(&self) -> Result<(), NetworkError> {
        let state = self.shared.lock();
        let socket = Socket::netfilter().map_err(NetworkError::during("netfilter socket"))?;
        for family in state.families() {
            let found = nft::has_table(&socket, family, &self.table);
            if !found.map_err(NetworkError::firewall)? {
                tracing::warn!("somebody removed the firewall table {}", self.table);
                return replace_tables(&state, &self.table, &self.policy);
            }
        }
        Ok(())
    }
}
