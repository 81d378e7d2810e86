//! Attach: before the start, during it, and while running.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use cais_monitor::protocol::FailureClass;
use cais_types::api::query::AttachQuery;
use cais_types::{ClientConnection, Framing};

use crate::fakes::{Heard, World, failure, until};

fn query() -> AttachQuery {
    AttachQuery {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachQuery::default()
    }
}

fn connection() -> (UnixStream, ClientConnection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (
        ours,
        ClientConnection {
            socket: theirs.into(),
            unread: b"early".to_vec(),
        },
    )
}

#[tokio::test]
async fn clients_that_wait_are_attached_before_the_start() {
    let world = World::new();
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    let (mut client, handed) = connection();
    let hijack = containers.attach("web", query()).await.unwrap();
    assert_eq!(hijack.framing, Framing::Multiplexed);
    (hijack.serve)(handed).await.unwrap();
    containers.start("web", None).await.unwrap();
    let heard: Vec<_> = world.heard.try_iter().map(|(_, heard)| heard).collect();
    let Heard::Launch(launch) = &heard[0] else {
        panic!("{heard:?}")
    };
    assert_eq!(launch.spec.process.as_ref().unwrap().args, ["sh"]);
    assert!(matches!(heard[2], Heard::Start));
    let Heard::Attach(asked, socket) = &heard[1] else {
        panic!("{heard:?}")
    };
    assert_eq!(
        (asked.unread.as_slice(), asked.stdin),
        (&b"early"[..], false)
    );
    // What the monitor holds is the client's own connection.
    (&*socket).write_all(b"hello").unwrap();
    let mut text = [0; 5];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
}

#[tokio::test]
async fn a_start_waits_for_an_attach_that_was_answered() {
    let world = World::new();
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    let hijack = containers.attach("web", query()).await.unwrap();
    let starting = tokio::spawn({
        let containers = containers.clone();
        async move { containers.start("web", None).await }
    });
    until("the monitor is launched", async || {
        world
            .launcher
            .launches
            .load(std::sync::atomic::Ordering::SeqCst)
            == 1
    })
    .await;
    let (_client, handed) = connection();
    (hijack.serve)(handed).await.unwrap();
    starting.await.unwrap().unwrap();
    assert_eq!(world.heard_kinds(), ["launch", "attach", "start"]);
}

#[tokio::test]
async fn an_attach_that_is_given_up_does_not_hold_the_start() {
    let world = World::new();
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    drop(containers.attach("web", query()).await.unwrap());
    containers.start("web", None).await.unwrap();
    assert_eq!(world.heard_kinds(), ["launch", "start"]);
    let (_client, handed) = connection();
    let hijack = containers.attach("web", query()).await.unwrap();
    (hijack.serve)(handed).await.unwrap();
    assert_eq!(world.heard_kinds(), ["attach"]);
}

#[tokio::test]
async fn a_monitor_that_refuses_an_attach_tells_why_the_start_fails() {
    let world = World::new();
    world.set_script(|s| s.refuses = Some(failure(FailureClass::Internal, "mounting overlay")));
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    for _ in 0..2 {
        let hijack = containers.attach("web", query()).await.unwrap();
        (hijack.serve)(connection().1).await.unwrap();
    }
    let error = containers.start("web", None).await.unwrap_err();
    assert!(
        error.to_string().ends_with("mounting overlay: unknown"),
        "{error}"
    );
    assert!(world.sandboxes.open.lock().unwrap().is_empty());
}
