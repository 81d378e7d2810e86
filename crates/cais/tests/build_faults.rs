//! Builds while others prune, and builds whose client, daemon, disk or step goes away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::build::{Context, build};
use crate::daemon;

/// Builds that run at the same time.
const BUILDERS: usize = 3;

/// A build whose steps stand on each other; it fails by itself if one of them lost something.
fn file(builder: usize, round: usize) -> String {
    format!(
        "FROM busybox AS first\n\
         RUN echo shared >/shared\n\
         COPY file /file\n\
         RUN echo {builder} {round} >/own\n\
         FROM busybox\n\
         ENV ROUND={round}\n\
         RUN echo second >/second\n\
         COPY --from=first /shared /file /own /\n\
         RUN --mount=from=first,target=/m cmp /m/own /own\n\
         RUN test \"$(cat /shared /file /own /second | tr '\\n' ' ')\" = 'shared content {builder} {round} second '\n"
    )
}

#[test]
fn builds_and_prunes_at_the_same_time_lose_nothing() {
    let daemon = daemon();
    let seconds = std::env::var("CAIS_PRUNE_SECONDS").ok();
    let seconds = seconds.map_or(6, |text| text.parse().unwrap());
    // The base image has a user, so that only what builds made is pruned.
    daemon
        .cais(&["run", "-d", "--name", "base", "busybox", "sleep", "100000"])
        .unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let building = AtomicBool::new(true);
    let built = std::thread::scope(|scope| {
        for what in [
            &["system", "prune", "-af"][..],
            &["image", "prune", "-af"],
            &["container", "prune", "-f"],
            &["builder", "prune", "-af"],
        ] {
            let (daemon, building) = (&daemon, &building);
            scope.spawn(move || {
                while building.load(Ordering::Relaxed) {
                    // One prune at a time is let in; others are told so.
                    let _ = daemon.client("docker", what).output().unwrap();
                }
            });
        }
        let builders: Vec<_> = (0..BUILDERS)
            .map(|builder| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let mut rounds = 0;
                    let mut failed = Vec::new();
                    while rounds == 0 || (Instant::now() < end && failed.is_empty()) {
                        let text = file(builder, rounds);
                        let context = Context::new(&[("Dockerfile", &text), ("file", "content\n")]);
                        let tag = format!("b{builder}:r{rounds}");
                        let output = build(daemon, &context, &["-t", &tag]);
                        if !output.status.success() {
                            failed.push(format!(
                                "{tag}: {}{}",
                                String::from_utf8_lossy(&output.stdout),
                                String::from_utf8_lossy(&output.stderr)
                            ));
                        }
                        rounds += 1;
                    }
                    (rounds, failed)
                })
            })
            .collect();
        let results: Vec<_> = builders
            .into_iter()
            .map(|builder| builder.join().unwrap())
            .collect();
        building.store(false, Ordering::Relaxed);
        results
    });
    for (rounds, failed) in &built {
        assert!(failed.is_empty(), "round {rounds}: {failed:#?}");
    }
    daemon.cais(&["rm", "-f", "base"]).unwrap();
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
    crate::kills::assert_nothing_left(&daemon);
}
