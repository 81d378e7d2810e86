//! The options of `RUN --mount`.

use cais_build::dockerfile::{Mount, MountType, Sharing};

use crate::refused;

fn mount(value: &str) -> Mount {
    let expand = |word: &str| Ok(word.replace("$x", "value"));
    Mount::parse(value, &expand).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn fails(value: &str) -> String {
    match Mount::parse(value, &|word| Ok(word.to_owned())) {
        Err(error) => error,
        Ok(mount) => panic!("{value} became {mount:?}"),
    }
}

fn text(word: &str) -> Option<String> {
    Some(word.to_owned())
}

#[test]
fn bind() {
    // row: mount-option|RUN --mount=type=bind|target (dst, destination)
    // row: mount-option|RUN --mount=type=bind|source (src)
    // row: mount-option|RUN --mount=type=bind|from
    // row: mount-option|RUN --mount=type=bind|rw (readwrite)
    // row: mount-option|RUN --mount=type=bind|ro (readonly)
    let want = Mount {
        from: text("base"),
        source: text("/s"),
        target: text("/t"),
        read_only: true,
        ..Mount::default()
    };
    for value in [
        "from=base,source=/s,target=/t",
        "type=bind,from=base,src=/s,dst=/t,ro",
        "TYPE=bind,from=base,src=/s,destination=/t,readonly=true",
    ] {
        assert_eq!(mount(value), want);
    }
    for value in [
        "target=/t,rw",
        "target=/t,readwrite=true",
        "target=/t,ro=false",
    ] {
        assert!(!mount(value).read_only, "{value}");
    }
    assert_eq!(mount("target=/$x,source=$x").target, text("/value"));
    assert_eq!(mount("\"target=/a,b\",src=x").target, text("/a,b"));
    assert_eq!(fails("source=x"), "bind mount needs a target");
    assert_eq!(
        fails("target=/t,mode=0700"),
        "mode not allowed for \"bind\" type mounts"
    );
    assert_eq!(
        refused("RUN --mount=from=$base,target=/t x"),
        "'from' doesn't support variable expansion, define alias stage instead"
    );
}

#[test]
fn cache() {
    // row: mount-option|RUN --mount=type=cache|id
    // row: mount-option|RUN --mount=type=cache|target (dst, destination)
    // row: mount-option|RUN --mount=type=cache|ro (readonly)
    // row: mount-option|RUN --mount=type=cache|rw (readwrite)
    // row: mount-option|RUN --mount=type=cache|sharing
    // row: mount-option|RUN --mount=type=cache|from
    // row: mount-option|RUN --mount=type=cache|source (src)
    // row: mount-option|RUN --mount=type=cache|mode
    // row: mount-option|RUN --mount=type=cache|uid
    // row: mount-option|RUN --mount=type=cache|gid
    let value =
        "type=cache,id=i,target=/t,ro,sharing=locked,from=base,source=/s,mode=0700,uid=1,gid=2";
    let want = Mount {
        kind: MountType::Cache,
        id: text("i"),
        target: text("/t"),
        read_only: true,
        sharing: Some(Sharing::Locked),
        from: text("base"),
        source: text("/s"),
        mode: Some(0o700),
        uid: Some(1),
        gid: Some(2),
        ..Mount::default()
    };
    assert_eq!(mount(value), want);
    assert!(!mount("type=cache,dst=/t").read_only);
    assert!(!mount("type=cache,destination=/t,rw").read_only);
    for (word, sharing) in [("shared", Sharing::Shared), ("private", Sharing::Private)] {
        let found = mount(&format!("type=cache,target=/t,sharing={word}"));
        assert_eq!(found.sharing, Some(sharing));
    }
    for (value, want) in [
        ("type=cache", "cache mount needs a target"),
        (
            "type=cache,target=/t,sharing=lokced",
            "unsupported sharing value \"lokced\" (did you mean locked?)",
        ),
        ("type=cache,target=/t,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/t,uid=-1", "invalid value -1 for uid"),
        (
            "type=bind,target=/t,sharing=shared",
            "invalid cache sharing set for bind mount",
        ),
    ] {
        assert_eq!(fails(value), want);
    }
}

#[test]
fn tmpfs() {
    // row: mount-option|RUN --mount=type=tmpfs|target (dst, destination)
    // row: mount-option|RUN --mount=type=tmpfs|size
    // row: mount-option|RUN --mount=type=tmpfs|ro (readonly)
    // row: mount-option|RUN --mount=type=tmpfs|rw (readwrite)
    let found = mount("type=tmpfs,target=/t,size=1m");
    assert_eq!(
        (found.kind, found.size, found.read_only),
        (MountType::Tmpfs, 1 << 20, false)
    );
    assert!(mount("type=tmpfs,dst=/t,readonly").read_only);
    assert!(!mount("type=tmpfs,dst=/t,readwrite").read_only);
    assert_eq!(fails("type=tmpfs"), "tmpfs mount needs a target");
    assert_eq!(
        fails("type=tmpfs,target=/t,size=x"),
        "invalid value for size: x"
    );
    assert_eq!(
        fails("type=bind,target=/t,size=1"),
        "unexpected key 'size' for mount type 'bind'"
    );
}

#[test]
fn secret() {
    // row: mount-option|RUN --mount=type=secret|id
    // row: mount-option|RUN --mount=type=secret|source (src)
    // row: mount-option|RUN --mount=type=secret|target (dst, destination)
    // row: mount-option|RUN --mount=type=secret|env
    // row: mount-option|RUN --mount=type=secret|required
    // row: mount-option|RUN --mount=type=secret|mode
    // row: mount-option|RUN --mount=type=secret|uid
    // row: mount-option|RUN --mount=type=secret|gid
    let want = Mount {
        kind: MountType::Secret,
        id: text("i"),
        target: text("/t"),
        env: text("E"),
        required: true,
        read_only: true,
        mode: Some(0o440),
        uid: Some(1),
        gid: Some(2),
        ..Mount::default()
    };
    let value = "type=secret,id=i,target=/t,env=E,required,mode=0440,uid=1,gid=2";
    assert_eq!(mount(value), want);
    assert_eq!(mount("type=secret,src=s").source, text("s"));
    for (value, want) in [
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,id=a,source=b",
            "both source and id can't be set",
        ),
        (
            "type=secret,id=a,from=b",
            "secret mount should not have a from",
        ),
        (
            "type=secret,id=a,sharing=shared",
            "secret mount should not define sharing",
        ),
        (
            "type=secret,id=a,required=x",
            "invalid value for required: x",
        ),
        (
            "type=cache,target=/t,required",
            "unexpected key 'required' for mount type 'cache'",
        ),
    ] {
        assert_eq!(fails(value), want);
    }
}

#[test]
fn ssh() {
    // row: mount-option|RUN --mount=type=ssh|id
    // row: mount-option|RUN --mount=type=ssh|target (dst, destination)
    // row: mount-option|RUN --mount=type=ssh|required
    // row: mount-option|RUN --mount=type=ssh|mode
    // row: mount-option|RUN --mount=type=ssh|uid
    // row: mount-option|RUN --mount=type=ssh|gid
    let want = Mount {
        kind: MountType::Ssh,
        id: text("i"),
        target: text("/t"),
        required: true,
        read_only: true,
        mode: Some(0o600),
        uid: Some(1),
        gid: Some(2),
        ..Mount::default()
    };
    assert_eq!(
        mount("type=ssh,id=i,dst=/t,required=true,mode=0600,uid=1,gid=2"),
        want
    );
    assert_eq!(mount("type=ssh").id, None);
}

#[test]
fn unknown_words_are_refused() {
    for (value, want) in [
        (
            "type=chace,target=/t",
            "unsupported mount type \"chace\" (did you mean cache?)",
        ),
        ("target=/t,xyzzy=1", "unexpected key 'xyzzy' in 'xyzzy=1'"),
        (
            "tagret=/t",
            "unexpected key 'tagret' in 'tagret=/t' (did you mean target?)",
        ),
        (
            "target=/t,nope",
            "invalid field 'nope' must be a key=value pair",
        ),
        ("", "failed to parse csv mounts: EOF"),
        (
            "target=a\"b",
            "failed to parse csv mounts: bare \" in non-quoted-field",
        ),
    ] {
        assert_eq!(fails(value), want, "{value}");
    }
}
