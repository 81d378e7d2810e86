//! Credentials: `login` and `logout`, `config.json`, helpers, and what goes to the daemon.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake::{Fake, Outcome, Request, answer, feed, refuse};

/// A daemon whose registries know one password.
fn daemon() -> Fake {
    Fake::start(|request: &Request, stream: &mut UnixStream| {
        if request.line.contains("/auth") {
            let asked: Value = serde_json::from_str(&request.body).unwrap();
            match asked["password"].as_str() {
                Some("secret") => answer(
                    stream,
                    "200 OK",
                    "{\"Status\":\"Login Succeeded\",\"IdentityToken\":\"\"}",
                ),
                Some("token please") => answer(
                    stream,
                    "200 OK",
                    "{\"Status\":\"Login Succeeded\",\"IdentityToken\":\"tok\"}",
                ),
                _ => refuse(stream, "401 Unauthorized", "wrong password"),
            }
        } else if request.line.contains("/images/search") {
            answer(stream, "200 OK", "[]");
        } else if request.line.contains("/containers/create") {
            refuse(stream, "404 Not Found", "No such image: x:latest");
        } else {
            answer(stream, "200 OK", "");
        }
    })
}

fn config(fake: &Fake) -> Value {
    serde_json::from_slice(&fs::read(fake.config_dir().join("config.json")).unwrap()).unwrap()
}

fn write_config(fake: &Fake, text: &str) {
    fs::write(fake.config_dir().join("config.json"), text).unwrap();
}

/// A helper program with a shell script as its body.
fn helper(directory: &Path, name: &str, script: &str) {
    let path = directory.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A helper that keeps one secret per server in files, and notes what it was asked.
fn keeper(directory: &Path) {
    let store = directory.display();
    helper(
        directory,
        "keeper",
        &format!(
            "in=$(cat); echo \"$1 $in\" >>{store}/calls\n\
             key=$(printf %s \"$in\" | sed 's/.*\"ServerURL\":\"\\([^\"]*\\)\".*/\\1/' | tr / _)\n\
             case $1 in\n\
             store) printf %s \"$in\" >{store}/secret-$key ;;\n\
             get) cat {store}/secret-$key 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;\n\
             erase) rm -f {store}/secret-$key ;;\n\
             esac"
        ),
    );
}

fn with_path(mut command: Command, directory: &Path) -> Command {
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    command
}

fn login(fake: &Fake, password: &str, server: &str) -> Outcome {
    fake.run_with(
        &["login", "-u", "me", "--password-stdin", server],
        format!("{password}\n").as_bytes(),
    )
}

#[test]
fn login_keeps_credentials_and_logout_forgets_them() {
    let fake = daemon();
    let outcome = login(&fake, "secret", "https://r.example:5000/v1/");
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.out, "Login Succeeded\n");
    let path = fake.config_dir().join("config.json");
    assert_eq!(
        outcome.err,
        format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            path.display()
        )
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\n\t\"auths\": {\n\t\t\"r.example:5000\": {\n\t\t\t\"auth\": \"bWU6c2VjcmV0\"\n\t\t}\n\t}\n}"
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(
        fake.requests()[0].body,
        "{\"username\":\"me\",\"password\":\"secret\",\"serveraddress\":\"r.example:5000\"}"
    );

    let outcome = fake.run(&["login", "r.example:5000"]);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (Some(0), "Login Succeeded\n")
    );
    assert_eq!(
        outcome.err,
        "Authenticating with existing credentials... [Username: me]\n\n Info -> To login with a different account, run \
         'docker logout' followed by 'docker login'\n\n\n"
    );

    fake.run(&["pull", "-q", "r.example:5000/x"]);
    fake.run(&["pull", "-q", "other.example/x"]);
    let sent: Vec<String> = fake.requests()[2..]
        .iter()
        .map(Request::registry_auth)
        .collect();
    assert_eq!(sent[1], "{}", "credentials went to another registry");
    assert_eq!(sent[0], fake.requests()[0].body);

    let outcome = fake.run(&["logout", "http://r.example:5000"]);
    assert_eq!(
        outcome.out,
        "Removing login credentials for r.example:5000\n"
    );
    assert_eq!(config(&fake), json!({"auths": {}}));
}

#[test]
fn a_token_takes_the_place_of_the_password() {
    let fake = daemon();
    let outcome = login(&fake, "token please", "r.example");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(
        config(&fake),
        json!({"auths": {"r.example": {"auth": "bWU6", "identitytoken": "tok"}}})
    );
    fake.run(&["push", "-q", "r.example/x"]);
    assert_eq!(
        fake.requests()[1].registry_auth(),
        "{\"username\":\"me\",\"serveraddress\":\"r.example\",\"identitytoken\":\"tok\"}"
    );
}

#[test]
fn a_refused_login_changes_nothing() {
    let fake = daemon();
    let outcome = login(&fake, "wrong", "r.example");
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(1), "Error response from daemon: wrong password\n")
    );
    assert!(!fake.config_dir().join("config.json").exists());
    for (args, err) in [
        (
            &["login", "r.example"][..],
            "Error: Cannot perform an interactive login from a non TTY device\n",
        ),
        (
            &["login", "--password-stdin", "r.example"],
            "the --password-stdin option requires --username to be set\n",
        ),
        (
            &["login", "-p", "x", "--password-stdin", "-u", "x"],
            "conflicting options: cannot specify both --password and --password-stdin\n",
        ),
        (&["login", "-u", "", "-p", "x"], "username is empty\n"),
        (&["login", "-u", "x", "-p", ""], "password is empty\n"),
    ] {
        let outcome = fake.run(args);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(1), err),
            "{args:?}"
        );
    }
}

#[test]
fn what_else_stands_in_the_file_stays() {
    let fake = daemon();
    let before = r#"{"psFormat":"x","unknown":{"deep":[1,2.50,null]},"auths":{"z.example":{"auth":"dTpw","email":"a@b"}}}"#;
    write_config(&fake, before);
    fs::set_permissions(
        fake.config_dir().join("config.json"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    assert_eq!(login(&fake, "secret", "r.example").code, Some(0));
    let mut expected: Value = serde_json::from_str(before).unwrap();
    expected["auths"]["r.example"] = json!({"auth": "bWU6c2VjcmV0"});
    assert_eq!(config(&fake), expected);
    let mode = fs::metadata(fake.config_dir().join("config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    let names: Vec<_> = fs::read_dir(fake.config_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("config"))
        .collect();
    assert_eq!(names, ["config.json"]);
}

#[test]
fn a_file_nobody_can_read_is_left_alone() {
    let fake = daemon();
    write_config(&fake, "{bad");
    let outcome = login(&fake, "secret", "r.example");
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .err
            .starts_with("WARNING: Error parsing config file ("),
        "{}",
        outcome.err
    );
    assert!(
        outcome.err.contains("Error saving credentials: "),
        "{}",
        outcome.err
    );
    let kept = fs::read_to_string(fake.config_dir().join("config.json")).unwrap();
    assert_eq!(kept, "{bad");
}

#[test]
fn a_symbolic_link_stays_one() {
    let fake = daemon();
    let real = fake.config_dir().join("dotfiles.json");
    symlink("dotfiles.json", fake.config_dir().join("config.json")).unwrap();
    assert_eq!(login(&fake, "secret", "r.example").code, Some(0));
    assert!(fake.config_dir().join("config.json").is_symlink());
    assert!(fs::read_to_string(real).unwrap().contains("r.example"));
}

#[test]
fn helpers_keep_secrets_out_of_the_file() {
    let fake = daemon();
    let bin = tempfile::tempdir().unwrap();
    keeper(bin.path());
    write_config(&fake, r#"{"credsStore":"keeper","detachKeys":"ctrl-x"}"#);
    let run = |args: &[&str]| feed(with_path(fake.command(args), bin.path()), b"secret\n");
    let outcome = run(&["login", "-u", "me", "--password-stdin", "r.example"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(
        config(&fake),
        json!({"auths": {"r.example": {}}, "credsStore": "keeper", "detachKeys": "ctrl-x"})
    );
    run(&["pull", "-q", "r.example/x"]);
    let sent = fake.requests().last().unwrap().registry_auth();
    assert_eq!(
        sent,
        "{\"username\":\"me\",\"password\":\"secret\",\"serveraddress\":\"r.example\"}"
    );
    assert_eq!(run(&["logout", "r.example"]).code, Some(0));
    run(&["pull", "-q", "r.example/x"]);
    assert_eq!(fake.requests().last().unwrap().registry_auth(), "{}");
    let calls = fs::read_to_string(bin.path().join("calls")).unwrap();
    assert_eq!(
        calls,
        "store {\"ServerURL\":\"r.example\",\"Username\":\"me\",\"Secret\":\"secret\"}\nget r.example\nerase r.example\n\
         erase http://r.example\nerase https://r.example\nget r.example\n"
    );
}

#[test]
fn a_helper_of_one_registry_is_asked_for_that_one_only() {
    let fake = daemon();
    let bin = tempfile::tempdir().unwrap();
    keeper(bin.path());
    write_config(
        &fake,
        r#"{"credHelpers":{"r.example":"keeper"},"auths":{"f.example":{"auth":"dTpw"}}}"#,
    );
    for image in ["r.example/x", "f.example/x"] {
        with_path(fake.command(&["pull", "-q", image]), bin.path())
            .output()
            .unwrap();
    }
    assert_eq!(
        fs::read_to_string(bin.path().join("calls")).unwrap(),
        "get r.example\n"
    );
    assert_eq!(
        fake.requests()[1].registry_auth(),
        "{\"username\":\"u\",\"password\":\"p\",\"serveraddress\":\"f.example\"}"
    );
}

/// A broken helper once made the command line send the credentials of Docker Hub to any registry.
#[test]
fn cve_2021_41092() {
    let fake = daemon();
    let bin = tempfile::tempdir().unwrap();
    helper(bin.path(), "broken", "echo something on fire; exit 3");
    let hub =
        r#""https://index.docker.io/v1/":{"auth":"aHViOnB3"},"docker.io":{"auth":"aHViOnB3"}"#;
    for settings in [
        r#""credsStore":"broken""#,
        r#""credsStore":"missing""#,
        r#""credHelpers":{"r.example":"broken"}"#,
        r#""credHelpers":{"r.example":"missing"}"#,
    ] {
        write_config(&fake, &format!("{{{settings},\"auths\":{{{hub}}}}}"));
        for args in [
            &["pull", "-q", "r.example/x"][..],
            &["push", "-q", "r.example/x"],
            &["search", "r.example/x"],
            &["create", "--pull", "always", "r.example/x"],
            &["run", "r.example/x"],
        ] {
            let before = fake.requests().len();
            with_path(fake.command(args), bin.path()).output().unwrap();
            let sent: Vec<String> = fake.requests()[before..]
                .iter()
                .filter(|request| request.header("X-Registry-Auth").is_some())
                .map(Request::registry_auth)
                .collect();
            assert_eq!(sent, ["{}"], "{settings} {args:?}");
        }
    }
}

#[test]
fn failing_helpers_say_why() {
    let fake = daemon();
    let bin = tempfile::tempdir().unwrap();
    helper(bin.path(), "broken", "echo something on fire; exit 3");
    write_config(&fake, r#"{"credsStore":"broken"}"#);
    let run = |args: &[&str]| feed(with_path(fake.command(args), bin.path()), b"secret\n");
    let outcome = run(&["login", "-u", "me", "--password-stdin", "r.example"]);
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (
            Some(1),
            "Error saving credentials: error storing credentials - err: exit status 3, out: `something on fire`\n"
        )
    );
    let outcome = run(&["logout", "r.example"]);
    assert_eq!(outcome.code, Some(0));
    assert!(
        outcome.err.starts_with(
            "WARNING: could not erase credentials:\nr.example: error erasing credentials - err: exit status 3, out: \
             `something on fire`\n"
        ),
        "{}",
        outcome.err
    );
    write_config(&fake, r#"{"credsStore":"nope"}"#);
    let outcome = run(&["login", "-u", "me", "--password-stdin", "r.example"]);
    assert_eq!(
        outcome.err,
        "Error saving credentials: error storing credentials - err: exec: \"docker-credential-nope\": executable file \
         not found in $PATH, out: ``\n"
    );
}

#[test]
fn nothing_in_the_current_directory_is_run() {
    let fake = daemon();
    let here = tempfile::tempdir().unwrap();
    let mark = here.path().join("was-run");
    let script = format!("touch {}", mark.display());
    fs::create_dir_all(here.path().join("docker-credential-sub")).unwrap();
    helper(here.path(), "evil", &script);
    for (name, path) in [
        ("evil", ".:/usr/bin:/bin"),
        ("evil", "/usr/bin:/bin:"),
        ("evil", ""),
        ("sub/../evil", "/usr/bin:/bin"),
        ("../evil", "."),
    ] {
        write_config(&fake, &json!({"credsStore": name}).to_string());
        let mut command = fake.command(&["pull", "-q", "r.example/x"]);
        command.current_dir(here.path()).env("PATH", path);
        command.output().unwrap();
        assert!(!mark.exists(), "{name} {path}");
    }
}

#[test]
fn a_safe_place_is_found_when_there_is_one() {
    let fake = daemon();
    let bin = tempfile::tempdir().unwrap();
    helper(bin.path(), "secretservice", "cat >/dev/null");
    let mut command = fake.command(&["login", "-u", "me", "--password-stdin", "r.example"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.path().display()));
    let outcome = feed(command, b"secret\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(
        config(&fake),
        json!({"auths": {"r.example": {}}, "credsStore": "secretservice"})
    );
}

#[test]
fn credentials_of_the_environment_go_first() {
    let fake = daemon();
    write_config(&fake, r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#);
    let mut command = fake.command(&["pull", "-q", "r.example/x"]);
    command.env(
        "DOCKER_AUTH_CONFIG",
        r#"{"auths":{"r.example":{"auth":"ZTpl"}}}"#,
    );
    command.output().unwrap();
    assert_eq!(
        fake.requests()[0].registry_auth(),
        "{\"username\":\"e\",\"password\":\"e\",\"serveraddress\":\"r.example\"}"
    );
}
