//! Ignore files, against what moby's matcher does.

use cais_build::dockerfile::ignore::{Ignore, IgnoreError, clean, patterns};

fn ignored(text: &str, path: &str) -> bool {
    Ignore::parse(text).unwrap().ignores(path)
}

#[test]
fn the_file_is_cleaned_line_by_line() {
    // row: dockerignore|context|# comment lines
    // row: dockerignore|context|leading / and trailing /
    // row: dockerignore|context|. entry
    let text = "\u{feff}# comment\n\n  a/  \n/b\n!/c/d/\n #not\n./e/./f\n.\n!\n ! g \n";
    assert_eq!(
        patterns(text),
        ["a", "b", "!c/d", "#not", "e/f", ".", "!", "!g"]
    );
    assert!(!ignored(".", "a") && !ignored(".", "a/b"));
    assert!(ignored("/a/", "a") && ignored("/a/", "a/b/c"));
    assert_eq!(Ignore::parse("!").unwrap_err(), IgnoreError::LoneBang);
}

#[test]
fn the_file_in_the_context_or_beside_the_dockerfile() {
    // row: dockerignore|context|.dockerignore
    // row: dockerignore|context|<Dockerfile>.dockerignore
    use cais_build::dockerfile::ignore::names;
    assert_eq!(
        names("Dockerfile"),
        ["Dockerfile.dockerignore", ".dockerignore"]
    );
    assert_eq!(
        names("sub/My.Dockerfile"),
        ["sub/My.Dockerfile.dockerignore", ".dockerignore"]
    );
}

#[test]
fn the_last_match_wins() {
    // row: dockerignore|context|! exception
    let text = "*.md\n!README*.md\nREADME-secret.md";
    assert!(ignored(text, "a.md"));
    assert!(!ignored(text, "README.md"));
    assert!(ignored(text, "README-secret.md"));
    assert!(!ignored("a\n!a/b", "a/b/c") && ignored("a\n!a/b", "a/c"));
    assert!(ignored("!a\na", "a"));
    let rules = Ignore::parse("a\nb\n!a/x/y\n!**/keep").unwrap();
    assert!(rules.may_except_below("a") && rules.may_except_below("a/x"));
    let rules = Ignore::parse("a\nb\n!a/x/y").unwrap();
    assert!(!rules.may_except_below("b") && !rules.may_except_below("a/z"));
}

#[test]
fn two_stars_stand_for_any_depth() {
    // row: dockerignore|context|** any depth
    for (pattern, path, want) in [
        ("**", "a/b", true),
        ("**/f", "f", true),
        ("**/f", "a/b/f", true),
        ("**/f", "xf", false),
        ("**f", "a/xf", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "ab", false),
        ("**/*.go", "x.go", true),
        ("**/*.go", "a/b/x.go", true),
        ("**/x/**", "a/x/b", true),
        ("a**/c", "ab/c", true),
        ("a**/c", "a/b/c", true),
        ("**/**/f", "f", true),
        (".*/**", ".git/x", true),
    ] {
        assert_eq!(ignored(pattern, path), want, "{pattern} {path}");
    }
}

#[test]
fn stars_marks_and_classes_stay_within_a_name() {
    // row: dockerignore|context|* ? [ ] \
    for (pattern, path, want) in [
        ("*.c", "x.c", true),
        ("*.c", "d/x.c", false),
        ("*/x", "d/x", true),
        ("*/x", "d/e/x", false),
        ("*", "a/b", true),
        ("?", "a", true),
        ("?", "ab", false),
        ("a?b", "a/b", false),
        ("[ab]c", "bc", true),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a[]]", "", false),
        ("a.b", "axb", false),
        ("a+", "a+", true),
        ("(x)", "(x)", true),
    ] {
        if pattern == "a[]]" {
            assert!(matches!(
                Ignore::parse(pattern),
                Err(IgnoreError::Pattern(_))
            ));
            continue;
        }
        assert_eq!(ignored(pattern, path), want, "{pattern} {path}");
    }
    for bad in ["[", "[]", "[a", "[-]", "[x-]", "\\", "a/[^]"] {
        assert!(
            matches!(Ignore::parse(bad), Err(IgnoreError::Pattern(_))),
            "{bad}"
        );
    }
}

#[test]
fn paths_are_cleaned_as_go_cleans_them() {
    for (path, want) in [
        ("", "."),
        ("a//b/./c/..", "a/b"),
        ("/../a", "/a"),
        ("../a/../..", "../.."),
        ("a/..", "."),
        ("/", "/"),
    ] {
        assert_eq!(clean(path), want, "{path}");
    }
}
