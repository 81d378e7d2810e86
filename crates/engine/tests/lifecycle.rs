//! The state machine: start, end, stop, kill, restart, pause, rename, removal, waits, policies.

use std::sync::atomic::Ordering;

use cais_engine::Changed;
use cais_monitor::protocol::FailureClass;
use cais_types::ErrorClass;
use cais_types::api::query::{RemoveQuery, StopQuery, WaitCondition};
use cais_types::api::{ExecCreateRequest, RestartPolicy};

use crate::fakes::{Heard, World, failure, until};

#[tokio::test]
async fn a_container_runs_from_create_to_exit() {
    let world = World::new();
    let containers = world.engine.containers();
    let id = world.create("web", |_| {}).await;
    assert_eq!(world.status("web").await, "created");
    let wait = containers
        .wait("web", WaitCondition::NextExit)
        .await
        .unwrap();
    assert_eq!(
        containers.start("web", None).await.unwrap(),
        Changed::Changed
    );
    assert_eq!(
        containers.start("web", None).await.unwrap(),
        Changed::Unchanged
    );
    let seen = containers
        .inspect(&id.to_string()[..12], false)
        .await
        .unwrap();
    assert_eq!(
        (seen.state.status.as_str(), seen.state.pid),
        ("running", 4242)
    );
    assert_eq!(seen.network_settings.ip_address, "172.17.0.2");
    let hosts = std::fs::read_to_string(world.directory(id).join("hosts")).unwrap();
    assert!(
        hosts.ends_with(&format!("172.17.0.2\t{}\n", id.short())),
        "{hosts}"
    );
    world.monitor(id).exit(&world.directory(id), 3);
    assert_eq!(wait.await.unwrap().status_code, 3);
    let seen = containers.inspect("web", false).await.unwrap();
    assert_eq!(
        (seen.state.status.as_str(), seen.state.exit_code),
        ("exited", 3)
    );
    assert!(world.sandboxes.open.lock().unwrap().is_empty());
    assert_eq!(world.actions().await, ["create", "start", "die"]);
}

#[tokio::test]
async fn names_are_unique_and_prefixes_are_found() {
    let world = World::new();
    let id = world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    let mut request = cais_types::api::ContainerCreateRequest::default();
    request.config.image = "busybox".into();
    let error = containers
        .create(Some("web".into()), None, request.clone())
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )
    );
    containers.rename("web", "site").await.unwrap();
    assert_eq!(
        containers.inspect("/site", false).await.unwrap().name,
        "/site"
    );
    containers
        .create(Some("web".into()), None, request)
        .await
        .unwrap();
    let error = containers.inspect("nope", false).await.unwrap_err();
    assert_eq!(error.to_string(), "No such container: nope");
    let error = containers.rename("web", "site").await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Error when allocating new name: Conflict.")
    );
}

#[tokio::test]
async fn a_failed_command_leaves_nothing_and_says_127() {
    let world = World::new();
    let text = "exec: \"foo\": executable file not found in $PATH";
    world.set_script(|s| s.start_fails = Some(failure(FailureClass::CommandNotFound, text)));
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    let error = containers.start("web", None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert_eq!(
        error.to_string(),
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
             failed: unable to start container process: error during container init: {text}: unknown"
        )
    );
    let seen = containers.inspect("web", false).await.unwrap();
    assert_eq!(
        (seen.state.status.as_str(), seen.state.exit_code),
        ("created", 127)
    );
    assert!(world.sandboxes.open.lock().unwrap().is_empty());
    world.set_script(|s| s.start_fails = None);
    assert_eq!(
        containers.start("web", None).await.unwrap(),
        Changed::Changed
    );
    assert_eq!(world.status("web").await, "running");
}

#[tokio::test]
async fn a_failed_network_ends_the_monitor_and_removes_an_auto_remove_container() {
    let world = World::new();
    *world.sandboxes.fails.lock().unwrap() = Some("port is already allocated".into());
    let id = world
        .create("web", |request| request.host_config.auto_remove = true)
        .await;
    let containers = world.engine.containers();
    let removed = containers
        .wait("web", WaitCondition::Removed)
        .await
        .unwrap();
    let error = containers.start("web", None).await.unwrap_err();
    assert_eq!(error.to_string(), "port is already allocated");
    assert_eq!(removed.await.unwrap().status_code, 128);
    assert!(containers.inspect("web", false).await.is_err());
    until("the monitor is told by its connection", async || {
        world.heard_kinds().contains(&"closed")
    })
    .await;
    until("files are gone", async || !world.directory(id).exists()).await;
}

#[tokio::test]
async fn an_auto_remove_container_is_gone_when_the_waiter_hears_of_it() {
    let world = World::new();
    world.set_script(|s| s.exit_at_once = Some(7));
    let id = world
        .create("once", |request| request.host_config.auto_remove = true)
        .await;
    let containers = world.engine.containers();
    let removed = containers
        .wait("once", WaitCondition::Removed)
        .await
        .unwrap();
    containers.start("once", None).await.unwrap();
    assert_eq!(removed.await.unwrap().status_code, 7);
    assert!(containers.inspect("once", false).await.is_err());
    world.create("once", |_| {}).await;
    until("files are gone", async || !world.directory(id).exists()).await;
    assert_eq!(
        world.actions().await,
        ["create", "start", "die", "destroy", "create"]
    );
}

#[tokio::test]
async fn stop_asks_then_kills() {
    let world = World::new();
    world.set_script(|s| s.dies_of = vec![9]);
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    containers.start("web", None).await.unwrap();
    let query = StopQuery {
        signal: Some("SIGUSR1".into()),
        timeout: Some(0),
    };
    assert_eq!(
        containers.stop("web", query).await.unwrap(),
        Changed::Changed
    );
    let seen = containers.inspect("web", false).await.unwrap();
    assert_eq!(
        (seen.state.status.as_str(), seen.state.exit_code),
        ("exited", 137)
    );
    assert_eq!(
        containers.stop("web", StopQuery::default()).await.unwrap(),
        Changed::Unchanged
    );
    let signals: Vec<_> = world
        .heard
        .try_iter()
        .filter_map(|(_, heard)| match heard {
            Heard::Kill(signal) => Some(signal),
            _ => None,
        })
        .collect();
    assert_eq!(signals, [10, 9]);
    let actions = world.actions().await;
    assert_eq!(actions, ["create", "start", "kill", "kill", "die", "stop"]);
    let error = containers.kill("web", None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert!(
        error
            .to_string()
            .starts_with("cannot kill container: web: container ")
    );
    assert!(error.to_string().ends_with(" is not running"));
}

#[tokio::test]
async fn restart_keeps_an_auto_remove_container() {
    let world = World::new();
    world
        .create("web", |request| request.host_config.auto_remove = true)
        .await;
    let containers = world.engine.containers();
    containers.start("web", None).await.unwrap();
    containers
        .restart("web", StopQuery::default())
        .await
        .unwrap();
    assert_eq!(world.status("web").await, "running");
    let actions = world.actions().await;
    assert_eq!(
        actions,
        ["create", "start", "kill", "die", "stop", "start", "restart"]
    );
}

#[tokio::test]
async fn policies_start_again_until_a_user_stops_it() {
    let world = World::new();
    world.set_script(|s| s.exit_at_once = Some(1));
    let policy = RestartPolicy {
        name: "on-failure".into(),
        maximum_retry_count: 2,
    };
    world
        .create("flaky", |request| {
            request.host_config.restart_policy = policy
        })
        .await;
    let containers = world.engine.containers();
    containers.start("flaky", None).await.unwrap();
    until("two more attempts", async || {
        world.launcher.launches.load(Ordering::SeqCst) == 3
            && world.status("flaky").await == "exited"
    })
    .await;
    assert_eq!(
        containers
            .inspect("flaky", false)
            .await
            .unwrap()
            .restart_count,
        2
    );
    let always = RestartPolicy {
        name: "always".into(),
        maximum_retry_count: 0,
    };
    world
        .create("ever", |request| {
            request.host_config.restart_policy = always
        })
        .await;
    containers.start("ever", None).await.unwrap();
    until("it waits for its next start", async || {
        world.status("ever").await == "restarting"
    })
    .await;
    containers.stop("ever", StopQuery::default()).await.unwrap();
    assert_eq!(world.status("ever").await, "exited");
    containers
        .remove("ever", RemoveQuery::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn removal_minds_the_state() {
    let world = World::new();
    let id = world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    containers.start("web", None).await.unwrap();
    let error = containers
        .remove("web", RemoveQuery::default())
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert_eq!(
        error.to_string(),
        "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
    );
    let removed = containers
        .wait("web", WaitCondition::Removed)
        .await
        .unwrap();
    let force = RemoveQuery {
        force: true,
        ..RemoveQuery::default()
    };
    containers.remove("web", force).await.unwrap();
    assert_eq!(removed.await.unwrap().status_code, 137);
    assert!(containers.inspect(&id.to_string(), false).await.is_err());
    until("files are gone", async || !world.directory(id).exists()).await;
}

#[tokio::test]
async fn pause_freezes_and_a_stop_thaws() {
    let world = World::new();
    world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    assert!(containers.pause("web").await.is_err());
    containers.start("web", None).await.unwrap();
    containers.pause("web").await.unwrap();
    let seen = containers.inspect("web", false).await.unwrap().state;
    assert!(seen.paused && seen.running);
    assert!(
        containers
            .pause("web")
            .await
            .unwrap_err()
            .to_string()
            .ends_with("is already paused")
    );
    assert!(containers.start("web", None).await.is_err());
    let request = ExecCreateRequest {
        cmd: vec!["ls".into()],
        ..ExecCreateRequest::default()
    };
    let error = world
        .engine
        .execs()
        .create("web", request)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is paused, unpause the container before exec")
    );
    containers.unpause("web").await.unwrap();
    containers.pause("web").await.unwrap();
    containers.stop("web", StopQuery::default()).await.unwrap();
    assert_eq!(
        *world.kernel.frozen.lock().unwrap(),
        [true, false, true, false]
    );
    assert_eq!(world.status("web").await, "exited");
}

#[tokio::test]
async fn an_exec_is_started_once_and_its_code_is_known() {
    let world = World::new();
    let id = world.create("web", |_| {}).await;
    let (containers, execs) = (world.engine.containers(), world.engine.execs());
    let request = ExecCreateRequest {
        cmd: vec!["ls".into()],
        ..ExecCreateRequest::default()
    };
    let error = execs.create("web", request.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("container {id} is not running"));
    containers.start("web", None).await.unwrap();
    let exec = execs.create("web", request).await.unwrap().id;
    assert_eq!(execs.inspect(&exec).await.unwrap().exit_code, None);
    execs.start_detached(&exec).await.unwrap();
    assert!(execs.inspect(&exec).await.unwrap().running);
    let asked = world
        .heard
        .try_iter()
        .any(|(_, heard)| matches!(heard, Heard::Exec(id) if id == exec));
    assert!(asked);
    let error = execs.start_detached(&exec).await.unwrap_err();
    assert!(error.to_string().ends_with("is already running"), "{error}");
    // An inspect after the end is in flight must not answer "running".
    world.monitor(id).exec_exit(&exec, 5);
    assert_eq!(execs.inspect(&exec).await.unwrap().exit_code, Some(5));
    assert!(
        execs
            .start_detached(&exec)
            .await
            .unwrap_err()
            .to_string()
            .ends_with("has already run")
    );
    let actions = world.actions().await;
    assert_eq!(
        actions[2..],
        ["exec_create: ls", "exec_start: ls", "exec_die"]
    );
    assert!(
        execs
            .inspect("ff")
            .await
            .unwrap_err()
            .to_string()
            .starts_with("No such exec instance")
    );
}

#[tokio::test]
async fn a_monitor_that_vanishes_is_cleaned_up_after_and_counts_as_killed() {
    let world = World::new();
    let id = world.create("web", |_| {}).await;
    let containers = world.engine.containers();
    containers.start("web", None).await.unwrap();
    let wait = containers
        .wait("web", WaitCondition::NotRunning)
        .await
        .unwrap();
    world.monitor(id).vanish();
    assert_eq!(wait.await.unwrap().status_code, 137);
    assert_eq!(
        *world.kernel.cleared.lock().unwrap(),
        [format!("/cais/{id}")]
    );
}
