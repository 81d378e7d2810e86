//! Build arguments: scopes, precedence, and those that need no declaration.

use std::collections::BTreeMap;

use cais_build::dockerfile::buildkit_args::BuildkitArgs;
use cais_build::dockerfile::instruction::ArgPair;
use cais_build::dockerfile::platform;
use cais_build::dockerfile::scope::{Arguments, GlobalScope, PROXY_ARGS};
use cais_types::oci::Platform;

fn pair(text: &str) -> ArgPair {
    let (name, default) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    ArgPair {
        name: name.to_owned(),
        default,
        description: None,
    }
}

fn given(pairs: &[(&str, &str)]) -> Arguments {
    Arguments {
        given: map(pairs),
        platform: BTreeMap::new(),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_given_value_wins_over_the_stages_default_and_that_over_the_global_one() {
    let mut global = GlobalScope::new('\\', &given(&[("GIVEN", "cli")]));
    for text in ["GIVEN=global", "A=global", "B=global", "C=$A/x"] {
        global.declare(&pair(text)).unwrap();
    }
    assert_eq!(global.expand("$GIVEN $C").unwrap().text, "cli global/x");
    let mut stage = global.stage(&["E=env".to_owned()]);
    assert_eq!(stage.value("A"), None, "a stage sees what it declares");
    for text in ["GIVEN=stage", "A", "B=stage", "E=arg", "NONE"] {
        stage.declare(&pair(text)).unwrap();
    }
    let value = |name| stage.value(name);
    assert_eq!(value("GIVEN").as_deref(), Some("cli"));
    assert_eq!(value("A").as_deref(), Some("global"));
    assert_eq!(value("B").as_deref(), Some("stage"));
    assert_eq!(value("E").as_deref(), Some("env"), "the environment wins");
    assert_eq!(value("NONE"), None);
    assert_eq!(stage.run_args(), ["GIVEN=cli", "A=global", "B=stage"]);
    assert_eq!(stage.env(), ["E=env"]);
}

#[test]
fn proxies_need_no_declaration_and_stay_out_of_history() {
    // row: predefined-arg|proxy|HTTP_PROXY
    // row: predefined-arg|proxy|http_proxy
    // row: predefined-arg|proxy|HTTPS_PROXY
    // row: predefined-arg|proxy|https_proxy
    // row: predefined-arg|proxy|FTP_PROXY
    // row: predefined-arg|proxy|ftp_proxy
    // row: predefined-arg|proxy|NO_PROXY
    // row: predefined-arg|proxy|no_proxy
    // row: predefined-arg|proxy|ALL_PROXY
    // row: predefined-arg|proxy|all_proxy
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "FTP_PROXY",
        "ftp_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        assert!(PROXY_ARGS.contains(&name));
        let global = GlobalScope::new('\\', &given(&[(name, "http://p"), ("OTHER", "x")]));
        let mut stage = global.stage(&[]);
        assert_eq!(stage.proxies(), [format!("{name}=http://p")]);
        assert!(stage.run_args().is_empty());
        stage.declare(&pair(name)).unwrap();
        assert_eq!(
            stage.run_args(),
            [format!("{name}=http://p")],
            "declared: part of history"
        );
        assert!(stage.proxies().is_empty());
    }
}

#[test]
fn platforms_are_arguments_of_the_global_scope() {
    // row: predefined-arg|platform (global scope)|TARGETPLATFORM
    // row: predefined-arg|platform (global scope)|TARGETOS
    // row: predefined-arg|platform (global scope)|TARGETARCH
    // row: predefined-arg|platform (global scope)|TARGETVARIANT
    // row: predefined-arg|platform (global scope)|TARGETOSVERSION
    // row: predefined-arg|platform (global scope)|TARGETSTAGE
    // row: predefined-arg|platform (global scope)|BUILDPLATFORM
    // row: predefined-arg|platform (global scope)|BUILDOS
    // row: predefined-arg|platform (global scope)|BUILDARCH
    // row: predefined-arg|platform (global scope)|BUILDVARIANT
    // row: predefined-arg|platform (global scope)|BUILDOSVERSION
    let build: Platform = "linux/amd64".parse().unwrap();
    let mut target: Platform = "linux/arm/v7".parse().unwrap();
    target.os_version = Some("1.2".to_owned());
    let values = platform::arguments(&build, &target, "final");
    assert_eq!(
        values,
        map(&[
            ("TARGETPLATFORM", "linux/arm/v7"),
            ("TARGETOS", "linux"),
            ("TARGETARCH", "arm"),
            ("TARGETVARIANT", "v7"),
            ("TARGETOSVERSION", "1.2"),
            ("TARGETSTAGE", "final"),
            ("BUILDPLATFORM", "linux/amd64"),
            ("BUILDOS", "linux"),
            ("BUILDARCH", "amd64"),
            ("BUILDVARIANT", ""),
            ("BUILDOSVERSION", ""),
        ])
    );
    assert_eq!(
        platform::arguments(&build, &build, "")["TARGETSTAGE"],
        "default"
    );
    let arguments = Arguments {
        given: map(&[("TARGETARCH", "mine")]),
        platform: values,
    };
    let global = GlobalScope::new('\\', &arguments);
    assert_eq!(
        global.expand("$TARGETOS-$TARGETARCH").unwrap().text,
        "linux-mine"
    );
    let mut stage = global.stage(&[]);
    assert_eq!(stage.value("TARGETOS"), None);
    stage.declare(&pair("TARGETOS")).unwrap();
    assert_eq!(stage.value("TARGETOS").as_deref(), Some("linux"));
}

#[test]
fn arguments_that_steer_the_build_are_read() {
    // row: predefined-arg|buildkit|BUILDKIT_BUILD_NAME
    // row: predefined-arg|buildkit|BUILDKIT_CACHE_MOUNT_NS
    // row: predefined-arg|buildkit|BUILDKIT_CONTEXT_KEEP_GIT_DIR
    // row: predefined-arg|buildkit|BUILDKIT_INLINE_CACHE
    // row: predefined-arg|buildkit|BUILDKIT_MULTI_PLATFORM
    // row: predefined-arg|buildkit|BUILDKIT_SANDBOX_HOSTNAME
    // row: predefined-arg|buildkit|BUILDKIT_SYNTAX
    // row: predefined-arg|buildkit|SOURCE_DATE_EPOCH
    // row: predefined-arg|buildkit|BUILDKIT_DOCKERFILE_CHECK
    // row: predefined-arg|buildkit|BUILDKIT_SBOM_SCAN_CONTEXT
    // row: predefined-arg|buildkit|BUILDKIT_SBOM_SCAN_STAGE
    let text = |text: &str| Some(text.to_owned());
    let read = BuildkitArgs::new(&map(&[
        ("BUILDKIT_BUILD_NAME", "n"),
        ("BUILDKIT_CACHE_MOUNT_NS", "ns"),
        ("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1"),
        ("BUILDKIT_INLINE_CACHE", "true"),
        ("BUILDKIT_MULTI_PLATFORM", "1"),
        ("BUILDKIT_SANDBOX_HOSTNAME", "h"),
        ("BUILDKIT_SYNTAX", "dockerfile.v0"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("BUILDKIT_DOCKERFILE_CHECK", "error=true"),
        ("BUILDKIT_SBOM_SCAN_CONTEXT", "true"),
        ("BUILDKIT_SBOM_SCAN_STAGE", "a,b"),
    ]))
    .unwrap();
    let want = BuildkitArgs {
        build_name: text("n"),
        cache_mount_namespace: text("ns"),
        keep_git_dir: true,
        inline_cache: true,
        multi_platform: true,
        hostname: text("h"),
        syntax: text("dockerfile.v0"),
        source_date_epoch: Some(1_700_000_000),
        check: text("error=true"),
        scan_context: text("true"),
        scan_stage: text("a,b"),
    };
    assert_eq!(read, want);
    for (name, value, error) in [
        (
            "SOURCE_DATE_EPOCH",
            "soon",
            "invalid SOURCE_DATE_EPOCH: soon",
        ),
        (
            "BUILDKIT_INLINE_CACHE",
            "perhaps",
            "failed to parse BUILDKIT_INLINE_CACHE: invalid value \"perhaps\"",
        ),
    ] {
        assert_eq!(
            BuildkitArgs::new(&map(&[(name, value)])).unwrap_err(),
            error
        );
    }
}
