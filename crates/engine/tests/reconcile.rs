//! A new engine over what an earlier one left.

use std::os::unix::net::UnixListener;

use cais_monitor::protocol::Exit;
use cais_types::api::RestartPolicy;
use cais_types::api::query::WaitCondition;

use crate::fakes::{FakeMonitor, Script, World, now, serve, until};

/// Forgets an engine without any farewell; its tasks stay behind, harmless, in the test's runtime.
fn crash(world: World) -> tempfile::TempDir {
    let World { root, .. } = world;
    root
}

#[tokio::test]
async fn ended_containers_are_settled_from_their_exit_records() {
    let world = World::new();
    let containers = world.engine.containers();
    let known = world.create("known", |_| {}).await;
    world.create("lost", |_| {}).await;
    let early = world.create("early", |_| {}).await;
    let once = world
        .create("once", |request| request.host_config.auto_remove = true)
        .await;
    for name in ["known", "lost", "once"] {
        containers.start(name, None).await.unwrap();
    }
    let exit = Exit {
        code: 42,
        oom_killed: true,
        finished_at: now(),
        execs: Vec::new(),
    };
    cais_monitor::exit::write(&world.directory(known), &exit).unwrap();
    cais_monitor::exit::write(&world.directory(early), &exit).unwrap();
    let world = World::over(crash(world));
    let containers = world.engine.containers();
    assert_eq!(world.status("known").await, "running");
    world.engine.reconcile().await.unwrap();
    let seen = containers.inspect("known", false).await.unwrap().state;
    assert_eq!(
        (seen.status.as_str(), seen.exit_code, seen.oom_killed),
        ("exited", 42, true)
    );
    // The record never said that it ran; the monitor's does.
    let seen = containers.inspect("early", false).await.unwrap().state;
    assert_eq!((seen.status.as_str(), seen.exit_code), ("exited", 42));
    let seen = containers.inspect("lost", false).await.unwrap().state;
    assert_eq!((seen.status.as_str(), seen.exit_code), ("exited", 137));
    assert!(containers.inspect("once", false).await.is_err());
    until("files are gone", async || !world.directory(once).exists()).await;
}

#[tokio::test]
async fn a_running_container_is_taken_over_and_ends_as_usual() {
    let world = World::new();
    let id = world.create("web", |_| {}).await;
    world.engine.containers().start("web", None).await.unwrap();
    let socket = world.engine.house().socket(&id);
    let world = World::over(crash(world));
    let listener = UnixListener::bind(socket).unwrap();
    let (tell, script) = (world.tell.clone(), Script::default());
    let playing = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let monitor = FakeMonitor::on(stream.try_clone().unwrap());
        let copy = FakeMonitor::on(stream.try_clone().unwrap());
        std::thread::spawn(move || serve(stream, &copy, &script, id, &tell, false));
        monitor
    });
    world.engine.reconcile().await.unwrap();
    let monitor = playing.join().unwrap();
    assert_eq!(world.status("web").await, "running");
    let wait = world
        .engine
        .containers()
        .wait("web", WaitCondition::NextExit)
        .await
        .unwrap();
    monitor.exit(&world.directory(id), 9);
    assert_eq!(wait.await.unwrap().status_code, 9);
}

#[tokio::test]
async fn policies_hold_over_a_restart_and_strangers_are_removed() {
    let world = World::new();
    let always = RestartPolicy {
        name: "always".into(),
        maximum_retry_count: 0,
    };
    world
        .create("ever", |request| {
            request.host_config.restart_policy = always
        })
        .await;
    world.create("fresh", |_| {}).await;
    world.engine.containers().start("ever", None).await.unwrap();
    let stranger = world
        .root
        .path()
        .join("data/containers")
        .join("ab".repeat(32));
    std::fs::create_dir_all(&stranger).unwrap();
    let world = World::over(crash(world));
    world.engine.reconcile().await.unwrap();
    until("it is up again", async || {
        world.status("ever").await == "running"
    })
    .await;
    assert_eq!(world.status("fresh").await, "created");
    assert!(!stranger.exists());
}
