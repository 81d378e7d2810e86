//! Tokens, logins, search.

use std::sync::Arc;

use cais_distribution::client::{Client, ClientConfig, Credentials};

use super::fake::{Canned, Fake};
use super::memory::{MemoryStore, noise};
use super::{client, config, pull, pull_telling, with_auth};

async fn with_tokens(answer: &str) -> Fake {
    let fake = Fake::start().await;
    fake.add_image("1", &[noise(1, 1000), noise(2, 1000)]);
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"srv\"",
        fake.authority
    );
    let answer = Canned::json(answer);
    fake.faults(|faults| {
        faults.wants = Some(("Bearer good".into(), challenge));
        faults.always.push(("/token".into(), answer));
    });
    fake
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_kept_per_user() {
    let fake = with_tokens(r#"{"token":"good","expires_in":300}"#).await;
    let client = client();
    let store = Arc::new(MemoryStore::default());
    pull(&client, &fake.name("a:1"), &store).await.unwrap();
    let asked = fake.asked("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=srv&scope=repository%3Aa%3Apull"
    );
    assert_eq!(asked[0].authorization, None);

    pull(&client, &fake.name("a:1"), &Arc::default())
        .await
        .unwrap();
    assert_eq!(fake.asked("/token").len(), 1, "from the cache");
    pull(&client, &fake.name("b:1"), &Arc::default())
        .await
        .unwrap();
    assert_eq!(fake.asked("/token").len(), 2, "another scope");
    let asked = with_auth(&fake.name("a:1"), Credentials::basic("user", "secret"));
    pull_telling(&client, asked, &Arc::default())
        .await
        .0
        .unwrap();
    let asked = fake.asked("/token");
    assert_eq!(asked.len(), 3, "another user");
    assert_eq!(
        asked[2].authorization.as_deref(),
        Some("Basic dXNlcjpzZWNyZXQ=")
    );
    assert!(asked[2].target.contains("account=user"));
}

#[tokio::test]
async fn identity_tokens_go_by_oauth_and_registry_tokens_as_they_are() {
    let fake = with_tokens(r#"{"access_token":"good"}"#).await;
    let identity = Credentials {
        username: "<token>".into(),
        identity_token: Some("refresh me".into()),
        ..Credentials::default()
    };
    let asked = with_auth(&fake.name("a:1"), identity);
    pull_telling(&client(), asked, &Arc::default())
        .await
        .0
        .unwrap();
    let asked = fake.asked("/token");
    assert_eq!(asked[0].method, "POST");
    let form = String::from_utf8(asked[0].body.to_vec()).unwrap();
    for part in [
        "grant_type=refresh_token",
        "refresh_token=refresh+me",
        "service=srv",
        "scope=repository%3Aa%3Apull",
    ] {
        assert!(form.contains(part), "{form}");
    }

    let fake = with_tokens("{}").await;
    let own = Credentials {
        registry_token: Some("good".into()),
        ..Credentials::default()
    };
    let asked = with_auth(&fake.name("a:1"), own);
    pull_telling(&client(), asked, &Arc::default())
        .await
        .0
        .unwrap();
    assert!(fake.asked("/token").is_empty());
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let fake = with_tokens(r#"{"token":"good"}"#).await;
    let client = client();
    pull(&client, &fake.name("a:1"), &Arc::default())
        .await
        .unwrap();
    // The registry forgot its tokens; the next are other ones.
    let again = Canned::json(r#"{"token":"better"}"#);
    fake.faults(|faults| {
        faults.wants.as_mut().unwrap().0 = "Bearer better".into();
        faults.always = vec![("/token".into(), again)];
    });
    pull(&client, &fake.name("a:1"), &Arc::default())
        .await
        .unwrap();
    let bad = Canned::json(r#"{"token":"worse"}"#);
    fake.faults(|faults| {
        faults.wants.as_mut().unwrap().0 = "Bearer best".into();
        faults.always = vec![("/token".into(), bad)];
    });
    let before = fake.state().seen.len();
    let error = pull(&client, &fake.name("a:1"), &Arc::default())
        .await
        .unwrap_err();
    assert_eq!(error.message(), "unauthorized: authentication required");
    assert!(fake.state().seen.len() - before <= 4, "no endless asking");
}

#[tokio::test]
async fn logins_are_proved_and_give_identity_tokens() {
    let fake = with_tokens(r#"{"token":"good","refresh_token":"keep me"}"#).await;
    let client = client();
    let user = Credentials::basic("user", "secret");
    let done = client.login(&fake.authority, user.clone()).await.unwrap();
    assert_eq!(done.status, "Login Succeeded");
    assert_eq!(done.identity_token.as_deref(), Some("keep me"));
    let asked = fake.asked("offline_token=true");
    assert_eq!(
        asked[0].authorization.as_deref(),
        Some("Basic dXNlcjpzZWNyZXQ=")
    );

    let refused = Canned {
        status: 401,
        body: br#"{"details":"incorrect username or password"}"#.as_slice().into(),
        ..Canned::default()
    };
    fake.faults(|faults| faults.always = vec![("/token".into(), refused)]);
    let error = client
        .login(&fake.authority, user.clone())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "Get \"http://{}/v2/\": unauthorized: incorrect username or password",
            fake.authority
        )
    );
    assert_eq!(error.class(), cais_types::ErrorClass::Unauthorized);

    let basic = Fake::start().await;
    basic.faults(|faults| {
        faults.wants = Some(("Basic dXNlcjpzZWNyZXQ=".into(), "Basic realm=\"x\"".into()));
    });
    let done = client
        .login(&format!("http://{}/", basic.authority), user)
        .await
        .unwrap();
    assert_eq!(done.identity_token, None);
    let wrong = Credentials::basic("user", "wrong");
    let error = client.login(&basic.authority, wrong).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "login attempt to http://{}/v2/ failed with status: 401 Unauthorized",
            basic.authority
        )
    );
}

#[tokio::test]
async fn searches_go_to_the_host_of_the_term() {
    let fake = Fake::start().await;
    let answer = Canned::json(
        r#"{"num_results":1,"results":[{"name":"app","description":"an app","star_count":7,"is_official":true,"is_automated":false}]}"#,
    );
    fake.faults(|faults| faults.always.push(("/v1/search".into(), answer)));
    let client = client();
    let found = client
        .search(&fake.name("app x"), Some(3), None)
        .await
        .unwrap();
    assert_eq!((found[0].name.as_str(), found[0].star_count), ("app", 7));
    assert!(found[0].is_official);
    assert_eq!(fake.asked("/v1/search")[0].target, "/v1/search?q=app+x&n=3");
    let error = client.search("x", Some(101), None).await.unwrap_err();
    assert_eq!(
        error.message(),
        "limit 101 is outside the range of [1, 100]"
    );
}

#[tokio::test]
async fn proxies_are_used_but_for_what_is_direct() {
    // A proxy for plain HTTP gets the whole URL.
    let proxy = Fake::start().await;
    proxy.add_image("1", &[noise(1, 100)]);
    let settings = |no_proxy: Option<&str>| {
        Client::new(ClientConfig {
            insecure_registries: vec!["registry.invalid".into()],
            attempts: 1,
            proxies: cais_distribution::client::Proxies {
                http: Some(format!("http://{}", proxy.authority)),
                https: None,
                no_proxy: no_proxy.map(str::to_owned),
            },
            ..config()
        })
        .unwrap()
    };
    let store = Arc::new(MemoryStore::default());
    pull(&settings(None), "registry.invalid/a:1", &store)
        .await
        .unwrap();
    assert!(store.id_of("registry.invalid/a:1").is_some());
    let through = proxy.state().seen.len();
    for direct in ["*", "registry.invalid", ".invalid"] {
        let client = settings(Some(direct));
        let error = pull(&client, "registry.invalid/a:1", &Arc::default())
            .await
            .unwrap_err();
        assert!(error.message().contains("no such host"), "{error}");
    }
    assert_eq!(proxy.state().seen.len(), through);
}
