//! What names a context, git references, and the questions that are answered without building.

use cais_build::dockerfile::context_source::{ContextSource, NamedContext};
use cais_build::dockerfile::git_ref::{GitRef, Mtime};
use cais_build::dockerfile::outline::{self, Taken};
use cais_build::dockerfile::scope::Arguments;

use crate::parse;

fn git(text: &str) -> GitRef {
    GitRef::parse(text)
        .unwrap()
        .unwrap_or_else(|| panic!("{text} is no repository"))
}

#[test]
fn the_path_argument_is_told_apart() {
    // row: context-source|build context|local directory
    // row: context-source|build context|- (stdin tar or Dockerfile)
    // row: context-source|build context|http(s) tarball or Dockerfile URL
    // row: context-source|build context|git URL with #ref:subdir
    let read = |text| ContextSource::parse(text).unwrap();
    assert_eq!(read("-"), ContextSource::Stdin);
    for path in [".", "/srv/x", "./a.git", "../x.git#y", "C:/x", "user@host"] {
        assert_eq!(read(path), ContextSource::Directory(path.to_owned()));
    }
    for url in ["http://host/x.tar.gz", "https://host/Dockerfile"] {
        assert_eq!(read(url), ContextSource::Http(url.to_owned()));
    }
    let want = GitRef {
        remote: "https://host/x.git".to_owned(),
        reference: Some("v1".to_owned()),
        subdir: Some("sub/dir".to_owned()),
        ..GitRef::default()
    };
    assert_eq!(
        read("https://host/x.git#v1:sub/dir"),
        ContextSource::Git(want)
    );
    for (text, remote) in [
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("github.com/a/b", "https://github.com/a/b"),
        ("git://host/x", "git://host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
    ] {
        assert_eq!(git(text).remote, remote);
    }
}

#[test]
fn named_contexts_are_told_apart() {
    // row: context-source|named context|local:
    // row: context-source|named context|docker-image://
    // row: context-source|named context|oci-layout://
    // row: context-source|named context|git or git@
    // row: context-source|named context|http(s)://
    // row: context-source|named context|input:
    let read = |text| NamedContext::parse(text).unwrap();
    let text = |text: &str| text.to_owned();
    assert_eq!(read("local:src"), NamedContext::Local(text("src")));
    assert_eq!(read("../src"), NamedContext::Local(text("../src")));
    assert_eq!(
        read("docker-image://alpine:3"),
        NamedContext::Image(text("alpine:3"))
    );
    let layout = NamedContext::OciLayout {
        path: text("./dir"),
        digest: text("sha256:12"),
    };
    assert_eq!(read("oci-layout://./dir@sha256:12"), layout);
    assert!(
        NamedContext::parse("oci-layout://./dir")
            .unwrap_err()
            .contains("digest")
    );
    assert!(matches!(read("git@host:x.git"), NamedContext::Git(_)));
    assert_eq!(
        read("https://host/x"),
        NamedContext::Http(text("https://host/x"))
    );
    assert_eq!(read("input:other"), NamedContext::Input(text("other")));
}

#[test]
fn the_query_of_a_repository_is_read() {
    // row: git-url-query|git context or ADD|ref
    // row: git-url-query|git context or ADD|tag
    // row: git-url-query|git context or ADD|branch
    // row: git-url-query|git context or ADD|subdir
    // row: git-url-query|git context or ADD|checksum
    // row: git-url-query|git context or ADD|commit
    // row: git-url-query|git context or ADD|keep-git-dir
    // row: git-url-query|git context or ADD|submodules
    // row: git-url-query|git context or ADD|mtime
    // row: git-url-query|git context or ADD|fetch-by-commit
    let base = "https://host/x.git?";
    let with = |query: &str| git(&format!("{base}{query}"));
    assert_eq!(with("ref=main").reference.as_deref(), Some("main"));
    assert_eq!(with("tag=v1").reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!(
        with("branch=a%2Fb").reference.as_deref(),
        Some("refs/heads/a/b")
    );
    assert_eq!(with("subdir=a/b").subdir.as_deref(), Some("a/b"));
    assert_eq!(with("checksum=abc1").checksum.as_deref(), Some("abc1"));
    assert_eq!(with("commit=abc1").checksum.as_deref(), Some("abc1"));
    assert_eq!(with("keep-git-dir=1").keep_git_dir, Some(true));
    assert_eq!(with("submodules=false").submodules, Some(false));
    assert_eq!(with("mtime=commit").mtime, Some(Mtime::Commit));
    assert_eq!(with("mtime=checkout").mtime, Some(Mtime::Checkout));
    assert_eq!(with("fetch-by-commit=true").fetch_by_commit, Some(true));
    for query in [
        "mtime=never",
        "nope=1",
        "submodules=x",
        "checksum=xyz",
        "ref=a&tag=b",
    ] {
        GitRef::parse(&format!("{base}{query}")).unwrap_err();
    }
}

#[test]
fn cve_2019_13139_a_reference_is_never_an_option() {
    for text in [
        "https://host/x.git#--upload-pack=sh",
        "https://host/x.git?ref=-oProxyCommand=sh",
        "git@host:x.git#-x",
    ] {
        let error = GitRef::parse(text).unwrap_err();
        assert!(error.starts_with("invalid git reference"), "{error}");
    }
}

#[test]
fn cve_2026_33748_a_subdirectory_stays_in_the_repository() {
    for text in [
        "https://host/x.git#main:../../etc",
        "https://host/x.git#:a/../../b",
        "https://host/x.git?subdir=..",
    ] {
        let error = GitRef::parse(text).unwrap_err();
        assert!(error.contains("outside of the repository"), "{error}");
    }
}

const FILE: &str = "\
# VERSION of the base
ARG VERSION=1
# base what others stand on
FROM alpine:$VERSION AS base
ARG SHARED
RUN --mount=type=secret,id=key,required true
FROM scratch AS unused
ARG ELSEWHERE
RUN --mount=type=secret,id=other true
FROM base
ARG OWN=x
RUN --mount=type=ssh true
";

#[test]
fn questions_about_a_file_are_answered_without_building() {
    // row: subrequest|frontend|frontend.outline
    // row: subrequest|frontend|frontend.targets
    // row: subrequest|frontend|frontend.lint
    // row: subrequest|frontend|frontend.subrequests.describe
    // row: subrequest|frontend|frontend.convertllb
    let file = parse(FILE).unwrap();
    let targets = outline::targets(&file);
    let names: Vec<_> = targets
        .iter()
        .map(|target| target.name.as_deref())
        .collect();
    assert_eq!(names, [Some("base"), Some("unused"), None]);
    assert_eq!(
        targets[0].description.as_deref(),
        Some("what others stand on")
    );
    assert!(targets[2].is_default && !targets[0].is_default);
    let found = outline::outline(&file, 2, &Arguments::default()).unwrap();
    let names =
        |list: &[Taken]| -> Vec<String> { list.iter().map(|taken| taken.name.clone()).collect() };
    assert_eq!(names(&found.args), ["VERSION", "SHARED", "OWN"]);
    assert_eq!(found.args[0].description.as_deref(), Some("of the base"));
    assert_eq!(names(&found.secrets), ["key"]);
    assert!(found.secrets[0].required);
    assert_eq!(names(&found.ssh), ["default"]);
    for name in [
        "frontend.outline",
        "frontend.targets",
        "frontend.lint",
        "frontend.subrequests.describe",
    ] {
        outline::supported(name).unwrap();
    }
    assert_eq!(
        outline::supported("frontend.convertllb").unwrap_err(),
        "unsupported subrequest \"frontend.convertllb\""
    );
}
