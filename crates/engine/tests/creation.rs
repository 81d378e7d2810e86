//! Create: what is refused, what is rolled back, what becomes of mounts.

use cais_types::ErrorClass;
use cais_types::api::query::RemoveQuery;
use cais_types::api::{ContainerCreateRequest, Mount};

use crate::fakes::{Heard, World, until};

fn request() -> ContainerCreateRequest {
    let mut request = ContainerCreateRequest::default();
    request.config.image = "busybox".into();
    request
}

#[tokio::test]
async fn a_refused_create_leaves_no_name_and_no_directory() {
    let world = World::new();
    let containers = world.engine.containers();
    let mut missing = request();
    missing.config.image = "nope".into();
    let error = containers.create(None, None, missing).await.unwrap_err();
    assert_eq!(
        (error.class(), error.to_string()),
        (ErrorClass::NotFound, "No such image: nope".into())
    );
    let mut bad = request();
    bad.host_config.mounts = vec![Mount {
        r#type: "bind".into(),
        source: "/no/such/source".into(),
        target: "/x".into(),
        ..Mount::default()
    }];
    let error = containers
        .create(Some("web".into()), None, bad)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid mount config for type \"bind\": bind source path does not exist: /no/such/source"
    );
    let left = std::fs::read_dir(world.root.path().join("data/containers"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
    let mut network = request();
    network.host_config.network_mode = "nowhere".into();
    let error = containers
        .create(Some("web".into()), None, network)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "network nowhere not found");
    containers
        .create(Some("web".into()), None, request())
        .await
        .unwrap();
    assert_eq!(world.actions().await, ["create"]);
}

#[tokio::test]
async fn a_missing_bind_source_is_made_at_the_start() {
    let world = World::new();
    let source = world.root.path().join("made/here");
    let bind = format!("{}:/data:ro", source.display());
    let id = world
        .create("web", |request| {
            request.host_config.binds = Some(vec![bind])
        })
        .await;
    assert!(!source.exists());
    world.engine.containers().start("web", None).await.unwrap();
    assert!(source.is_dir());
    let heard = world.heard.try_iter().next();
    let Some((_, Heard::Launch(launch))) = heard else {
        panic!("{heard:?}")
    };
    let mount = launch
        .spec
        .mounts
        .iter()
        .find(|m| m.destination.ends_with("data"))
        .unwrap();
    assert_eq!(mount.options, ["rbind", "rro", "rprivate"]);
    let seen = world
        .engine
        .containers()
        .inspect(&id.to_string(), false)
        .await
        .unwrap();
    assert_eq!(
        (seen.mounts[0].mode.as_str(), seen.mounts[0].rw),
        ("ro", false)
    );
}

#[tokio::test]
async fn records_survive_the_daemon_and_removals_too() {
    let world = World::new();
    world
        .create("kept", |request| request.config.env = vec!["A=1".into()])
        .await;
    let gone = world.create("gone", |_| {}).await;
    let containers = world.engine.containers();
    containers
        .remove("gone", RemoveQuery::default())
        .await
        .unwrap();
    until("files are gone", async || !world.directory(gone).exists()).await;
    let world = World::over(world.root);
    let containers = world.engine.containers();
    let seen = containers.inspect("kept", false).await.unwrap();
    assert_eq!(
        (seen.config.env, seen.path.as_str()),
        (vec!["A=1".to_owned()], "sh")
    );
    assert_eq!(seen.host_config.network_mode, "bridge");
    assert!(containers.inspect("gone", false).await.is_err());
}
