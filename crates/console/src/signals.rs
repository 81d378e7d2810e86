//! Signals of the command line itself: passed on to a container, turned into resizes, or used to leave in good order.

use std::future::Future;

use cais_client::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, Result};
use crate::printer::Printer;
use crate::terminal;

/// Signals that are passed on, by number and name (signal(7)).
const PROXIED: &[(i32, &str)] = &[
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (28, "WINCH"),
];

/// So many interrupts without effect end the command line.
const FORCED_EXIT: u32 = 3;

/// Catches the signals that [`Proxy::run`] will pass on; made before the container starts, so that none is lost.
pub struct Proxy {
    signals: Vec<(Signal, &'static str)>,
}

impl Proxy {
    /// Begins to catch signals.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new() -> Result<Self> {
        let catch = |&(number, name): &(i32, &'static str)| {
            signal(SignalKind::from_raw(number)).map(|signal| (signal, name))
        };
        Ok(Self {
            signals: PROXIED.iter().map(catch).collect::<std::io::Result<_>>()?,
        })
    }

    /// Passes signals on; returns only after the third interrupt.
    pub async fn run(mut self, client: &Client, container: &str, printer: Printer) -> i32 {
        let mut interrupts = 0;
        loop {
            let name = self.next().await;
            if matches!(name, "INT" | "TERM") {
                interrupts += 1;
                if interrupts >= FORCED_EXIT {
                    printer.err_line("\ngot 3 SIGTERM/SIGINTs, forcefully exiting");
                    return 1;
                }
            }
            // A container that is gone gets no signal; its exit is on the way.
            drop(client.container_kill(container, name).await);
        }
    }

    fn next(&mut self) -> impl Future<Output = &'static str> {
        std::future::poll_fn(|cx| {
            for (signal, name) in &mut self.signals {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
    }
}

/// Whose terminal follows ours.
#[derive(Clone, Copy)]
pub enum Resized<'a> {
    /// A container's.
    Container(&'a str),
    /// That of a process added by exec.
    Exec(&'a str),
}

/// Sends the size of the terminal now and whenever it changes; never returns.
pub async fn follow_size(client: &Client, target: Resized<'_>) -> i32 {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    loop {
        if let Some((height, width)) = terminal::size(&std::io::stdout()) {
            // A process that just ended has no terminal any more.
            drop(match target {
                Resized::Container(id) => client.container_resize(id, height, width).await,
                Resized::Exec(id) => client.exec_resize(id, height, width).await,
            });
        }
        changes.recv().await;
    }
}

/// Ends with 128 + signal when the command line is told to leave; for raw mode, which has to be undone first.
pub async fn termination() -> i32 {
    const NUMBERS: [i32; 4] = [1, 2, 3, 15];
    let mut caught: Vec<(Signal, i32)> = NUMBERS
        .iter()
        .filter_map(|&number| Some((signal(SignalKind::from_raw(number)).ok()?, number)))
        .collect();
    std::future::poll_fn(|cx| {
        for (signal, number) in &mut caught {
            if signal.poll_recv(cx).is_ready() {
                return std::task::Poll::Ready(128 + *number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Runs `main` beside something that normally never ends; if that does end, its number is the exit code.
///
/// # Errors
/// Those of `main`.
pub async fn beside<T>(
    main: impl Future<Output = Result<T>>,
    side: impl Future<Output = i32>,
) -> Result<T> {
    tokio::select! {
        // What catches signals begins before what may be interrupted.
        biased;
        code = side => Err(CliError::silent(code)),
        result = main => result,
    }
}
