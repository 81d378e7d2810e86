//! Expansion of words.

use cais_build::dockerfile::lexer::Lexer;

fn value(name: &str) -> Option<String> {
    let value = match name {
        "x" => "value",
        "empty" => "",
        "path" => "/a/b/c.tar.gz",
        "star" => "a*b?c\\d",
        "two" => "one two",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expand(word: &str) -> String {
    match Lexer::new('\\').expand(word, &value) {
        Ok(expansion) => expansion.text,
        Err(error) => panic!("{word}: {error}"),
    }
}

fn fails(word: &str) -> String {
    match Lexer::new('\\').expand(word, &value) {
        Err(error) => error.to_string(),
        Ok(expansion) => panic!("{word} became {}", expansion.text),
    }
}

#[test]
fn names_plain_and_in_braces() {
    // row: variable|word expansion|$name
    // row: variable|word expansion|${name}
    for (word, want) in [
        ("$x", "value"),
        ("a$x-b", "avalue-b"),
        ("${x}y", "valuey"),
        ("$xy", ""),
        ("$none", ""),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "x"),
        ("é$x", "évalue"),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
}

#[test]
fn words_instead_of_values() {
    // row: variable|word expansion|${name:-word}
    // row: variable|word expansion|${name-word}
    // row: variable|word expansion|${name:+word}
    // row: variable|word expansion|${name+word}
    for (word, want) in [
        ("${x:-d}", "value"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${x-d}", "value"),
        ("${none-d}", "d"),
        ("${empty-d}", ""),
        ("${x:+d}", "d"),
        ("${none:+d}", ""),
        ("${empty:+d}", ""),
        ("${x+d}", "d"),
        ("${none+d}", ""),
        ("${empty+d}", "d"),
        ("${none:-${x}}", "value"),
        ("${none:-${none:-$x}}", "value"),
        ("${none:-\"a b\"}", "a b"),
        ("${none:-a\\}b}", "a}b"),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
}

#[test]
fn values_that_are_demanded() {
    // row: variable|word expansion|${name:?word}
    // row: variable|word expansion|${name?word}
    assert_eq!(expand("${x?}${x:?}${empty?}"), "valuevalue");
    for (word, want) in [
        ("${none?}", "none: is not allowed to be unset"),
        ("${none:?}", "none: is not allowed to be unset"),
        ("${none?say it}", "none: say it"),
        ("${empty:?}", "empty: is not allowed to be empty"),
    ] {
        assert_eq!(fails(word), format!("failed to process {word:?}: {want}"));
    }
}

#[test]
fn prefixes_and_suffixes_are_dropped() {
    // row: variable|word expansion|${name#pat}
    // row: variable|word expansion|${name##pat}
    // row: variable|word expansion|${name%pat}
    // row: variable|word expansion|${name%%pat}
    for (word, want) in [
        ("${path#*/}", "a/b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"),
        ("${path%.*}", "/a/b/c.tar"),
        ("${path%%.*}", "/a/b/c"),
        ("${x#va}", "lue"),
        ("${x#lu}", "value"),
        ("${x%lue}", "va"),
        ("${x%val}", "value"),
        ("${x##*}", ""),
        ("${x%%*}", ""),
        ("${x#*}", "value"),
        ("${x%?}", "valu"),
        ("${none#a}", ""),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
}

#[test]
fn matches_are_replaced() {
    // row: variable|word expansion|${name/pat/rep}
    // row: variable|word expansion|${name//pat/rep}
    for (word, want) in [
        ("${path/a/X}", "/X/b/c.tar.gz"),
        ("${path//a/X}", "/X/b/c.tXr.gz"),
        ("${path/*a/X}", "Xr.gz"),
        ("${path//\\//_}", "_a_b_c.tar.gz"),
        ("${x/l*/}", "va"),
        ("${x/a/$1}", "vlue"),
        ("${x//nope/x}", "value"),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
}

#[test]
fn patterns_know_two_wildcards_and_their_escapes() {
    // row: variable|word expansion|pattern ? * \? \* \\
    for (word, want) in [
        ("${star#a\\*}", "b?c\\d"),
        ("${star#?}", "*b?c\\d"),
        ("${star/\\?/!}", "a*b!c\\d"),
        ("${star/\\\\/!}", "a*b?c!d"),
        ("${x#[v]}", "value"),
        ("${path%.tar.gz}", "/a/b/c"),
        ("${x/v.l/}", "value"),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
    assert!(
        fails("${x#\\a}").contains("invalid pattern (\\a) in substitution: invalid escape '\\a'")
    );
}

#[test]
fn quotes_and_escapes() {
    // row: variable|word expansion|quotes ' and "
    // row: variable|word expansion|\$name
    for (word, want) in [
        ("'$x'", "$x"),
        ("\"$x\"", "value"),
        ("\"a'b\"", "a'b"),
        ("'a\"b'", "a\"b"),
        ("\\$x", "$x"),
        ("\"\\$x\"", "$x"),
        ("\"\\a\"", "\\a"),
        ("\\a", "a"),
        ("'\\a'", "\\a"),
        ("a\\", "a"),
        ("\"a\\\"b\"", "a\"b"),
    ] {
        assert_eq!(expand(word), want, "{word}");
    }
    let tick = Lexer::new('`').expand("`$x \\$x", &value).unwrap();
    assert_eq!(tick.text, "$x \\value");
}

#[test]
fn words_are_split_after_expansion_unless_quoted() {
    let words = |text: &str| Lexer::new('\\').expand(text, &value).unwrap().words;
    assert_eq!(
        words("a $two \"$two\" b\\ c"),
        ["a", "one", "two", "one two", "b c"]
    );
    let seen = Lexer::new('\\')
        .expand("$x ${none:-1} $two", &value)
        .unwrap();
    assert_eq!(seen.matched.into_iter().collect::<Vec<_>>(), ["two", "x"]);
    assert_eq!(seen.unmatched.into_iter().collect::<Vec<_>>(), ["none"]);
}

#[test]
fn bad_words_are_refused() {
    for (word, want) in [
        (
            "'a",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "unexpected end of statement while looking for matching double-quote",
        ),
        ("${x", "unsupported modifier () in substitution"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${x:-a", "syntax error: missing '}'"),
        ("${x/a", "syntax error: missing '/' in ${}"),
        ("${x!y}", "unsupported modifier (!) in substitution"),
        ("${x:y}", "unsupported modifier (:y) in substitution"),
    ] {
        assert_eq!(fails(word), format!("failed to process {word:?}: {want}"));
    }
    let deep = "${none:-".repeat(10_000);
    assert!(fails(&deep).ends_with("nested too deep"));
}
