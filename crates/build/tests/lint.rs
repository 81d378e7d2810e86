//! The rules of `--check`: each with a file that breaks it and one that does not.

use cais_build::dockerfile::ignore::Ignore;
use cais_build::dockerfile::lint::{self, CheckInput, CheckOptions, RULES, Report};
use cais_build::dockerfile::{Lines, source::Source};

use crate::parse;

fn report(text: &str) -> Report {
    let ignore = Ignore::parse("secret.txt\ndir").unwrap();
    let input = CheckInput {
        ignore: Some(&ignore),
        ..CheckInput::default()
    };
    lint::check(&parse(text).unwrap(), &input).unwrap()
}

/// Name, message and first line of what is found.
fn found(text: &str) -> Vec<(&'static str, String, usize)> {
    report(text)
        .findings
        .into_iter()
        .map(|finding| {
            let line = finding.lines.map_or(0, |lines| lines.start);
            (finding.rule.name, finding.message, line)
        })
        .collect()
}

#[track_caller]
fn breaks(text: &str, rule: &'static str, message: &str, line: usize) {
    assert_eq!(found(text), [(rule, message.to_owned(), line)], "{text}");
}

#[track_caller]
fn clean(text: &str) {
    assert_eq!(found(text), [], "{text}");
}

#[test]
fn names_of_stages() {
    // row: lint-rule|build check|StageNameCasing
    // row: lint-rule|build check|DuplicateStageName
    // row: lint-rule|build check|ReservedStageName
    breaks(
        "FROM a AS Base",
        "StageNameCasing",
        "Stage name 'Base' should be lowercase",
        1,
    );
    breaks(
        "FROM a AS x\nFROM a AS x",
        "DuplicateStageName",
        "Duplicate stage name \"x\", stage names should be unique",
        2,
    );
    for name in ["scratch", "context"] {
        breaks(
            &format!("FROM a AS {name}"),
            "ReservedStageName",
            &format!("Stage name should not use the same name as reserved stage \"{name}\""),
            1,
        );
    }
    clean("FROM a AS x\nFROM a AS y");
}

#[test]
fn case_of_keywords() {
    // row: lint-rule|build check|FromAsCasing
    // row: lint-rule|build check|ConsistentInstructionCasing
    breaks(
        "FROM a as x",
        "FromAsCasing",
        "'as' and 'FROM' keywords' casing do not match",
        1,
    );
    breaks(
        "FROM a\nrun x\nRUN y",
        "ConsistentInstructionCasing",
        "Command 'run' should match the case of the command majority (uppercase)",
        2,
    );
    breaks(
        "from a\nrun x\nRuN y",
        "ConsistentInstructionCasing",
        "Command 'RuN' should match the case of the command majority (lowercase)",
        3,
    );
    clean("from a as x\nrun y");
}

#[test]
fn single_instructions() {
    // row: lint-rule|build check|NoEmptyContinuation
    // row: lint-rule|build check|MaintainerDeprecated
    // row: lint-rule|build check|LegacyKeyValueFormat
    // row: lint-rule|build check|SecretsUsedInArgOrEnv
    // row: lint-rule|build check|ExposeProtoCasing
    // row: lint-rule|build check|ExposeInvalidFormat
    // row: lint-rule|build check|CopyIgnoredFile
    for (line, rule, message) in [
        (
            "RUN a \\\n\n b",
            "NoEmptyContinuation",
            "Empty continuation line",
        ),
        (
            "MAINTAINER me",
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ENV a b",
            "LegacyKeyValueFormat",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "LABEL a b",
            "LegacyKeyValueFormat",
            "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        ),
        (
            "ENV AWS_SECRET=x",
            "SecretsUsedInArgOrEnv",
            "Do not use ARG or ENV instructions for sensitive data (ENV \"AWS_SECRET\")",
        ),
        (
            "ARG db_password",
            "SecretsUsedInArgOrEnv",
            "Do not use ARG or ENV instructions for sensitive data (ARG \"db_password\")",
        ),
        (
            "EXPOSE 80/TCP",
            "ExposeProtoCasing",
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            "EXPOSE 127.0.0.1:80:80",
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "COPY secret.txt /",
            "CopyIgnoredFile",
            "Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore",
        ),
        (
            "ADD dir/x /",
            "CopyIgnoredFile",
            "Attempting to Add file \"dir/x\" that is excluded by .dockerignore",
        ),
    ] {
        breaks(&format!("FROM a\n{line}"), rule, message, 2);
    }
    clean(
        "FROM a\nENV a=b PUBLIC_KEY=x\nLABEL a=b\nARG keyboard\nEXPOSE 80/tcp $x\nCOPY other /\nCOPY --from=b dir /",
    );
}

#[test]
fn repeated_and_shell_forms() {
    // row: lint-rule|build check|MultipleInstructionsDisallowed
    // row: lint-rule|build check|JSONArgsRecommended
    for (keyword, argument) in [
        ("CMD", "[\"a\"]"),
        ("ENTRYPOINT", "[\"a\"]"),
        ("HEALTHCHECK", "NONE"),
    ] {
        breaks(
            &format!("FROM a\n{keyword} {argument}\n{keyword} {argument}"),
            "MultipleInstructionsDisallowed",
            &format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            ),
            2,
        );
    }
    for keyword in ["CMD", "ENTRYPOINT"] {
        breaks(
            &format!("FROM a\n{keyword} a"),
            "JSONArgsRecommended",
            &format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            ),
            2,
        );
    }
    clean("FROM a\nSHELL [\"bash\", \"-c\"]\nCMD a\nENTRYPOINT b");
    clean("FROM a\nCMD [\"a\"]\nFROM a\nCMD [\"a\"]");
}

#[test]
fn variables() {
    // row: lint-rule|build check|UndefinedArgInFrom
    // row: lint-rule|build check|UndefinedVar
    // row: lint-rule|build check|InvalidDefaultArgInFrom
    // row: lint-rule|build check|WorkdirRelativePath
    breaks(
        "ARG VERSION=1\nFROM a:${VERSIN:-1}",
        "UndefinedArgInFrom",
        "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        2,
    );
    breaks(
        "FROM scratch\nARG foo=x\nCOPY $fo .",
        "UndefinedVar",
        "Usage of undefined variable '$fo' (did you mean $foo?)",
        3,
    );
    breaks(
        "ARG TAG\nFROM a:$TAG",
        "InvalidDefaultArgInFrom",
        "Default value for ARG a:$TAG results in empty or invalid base image name",
        2,
    );
    breaks(
        "FROM a\nWORKDIR x",
        "WorkdirRelativePath",
        "Relative workdir \"x\" can have unexpected results if the base image changes",
        2,
    );
    clean("ARG TAG=1\nFROM a:$TAG\nWORKDIR /x\nWORKDIR y\nCOPY $UNKNOWN_OF_BASE .");
    clean("FROM scratch AS x\nENV a=b PATH=$PATH:/x\nARG c\nFROM x\nCOPY $a$c .");
    clean("FROM a AS x\nWORKDIR /x\nFROM x\nWORKDIR y");
}

#[test]
fn platforms() {
    // row: lint-rule|build check|RedundantTargetPlatform
    // row: lint-rule|build check|FromPlatformFlagConstDisallowed
    // row: lint-rule|build check|InvalidBaseImagePlatform
    let file = parse("FROM --platform=$TARGETPLATFORM a").unwrap();
    let mut input = CheckInput::default();
    input
        .arguments
        .platform
        .insert("TARGETPLATFORM".to_owned(), "linux/amd64".to_owned());
    let found = lint::check(&file, &input).unwrap().findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule.name, "RedundantTargetPlatform");
    assert_eq!(
        found[0].message,
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    );
    breaks(
        "FROM --platform=linux/amd64 a",
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use constant value \"linux/amd64\"",
        1,
    );
    clean("FROM --platform=linux/amd64 a AS build_amd64");
    let finding = lint::base_platform("a", "linux/arm64", "linux/amd64", Lines::one(1));
    assert_eq!(finding.rule.name, "InvalidBaseImagePlatform");
    assert_eq!(
        finding.message,
        "Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build"
    );
    assert_eq!(finding.rule.url(), None);
}

#[test]
fn descriptions_are_checked_when_asked_for() {
    // row: lint-rule|build check|InvalidDefinitionDescription
    // row: check-option|# check|experimental
    let file =
        "# check=experimental=all\n# wrong words\nARG x\n\n# x fits\nARG x\n# y no\nFROM a AS z";
    let found = found(file);
    let lines: Vec<_> = found.iter().map(|(name, _, line)| (*name, *line)).collect();
    assert_eq!(
        lines,
        [
            ("InvalidDefinitionDescription", 3),
            ("InvalidDefinitionDescription", 8)
        ]
    );
    clean("# wrong words\nARG x\nFROM a");
}

#[test]
fn settings_switch_rules() {
    // row: check-option|# check|skip
    // row: check-option|# check|error
    // row: check-option|comment before an instruction|check=
    clean("# check=skip=StageNameCasing\nFROM a AS B");
    clean("# check=skip=all\nFROM a AS B");
    clean("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x");
    let failing = report("# check=error=true\nFROM a AS B");
    assert!(failing.fails);
    assert!(!report("FROM a AS B").fails);
    assert!(!report("# check=skip=all;error=true\nFROM a AS B").fails);
    for (text, want) in [
        ("nope=1", "invalid check option \"nope\""),
        ("skip", "invalid check option \"skip\""),
        (
            "eror=true",
            "invalid check option \"eror\" (did you mean error?)",
        ),
    ] {
        assert_eq!(CheckOptions::parse(text).unwrap_err(), want);
    }
}

#[test]
fn the_table_is_whole_and_reports_show_the_line() {
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), 22);
    let text = "FROM a\nCMD x\n";
    let source = Source {
        name: "Dockerfile".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(
        report(text).show(&source),
        "Check complete, 1 warning has been found!\n\nWARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\nJSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals\nJSON arguments recommended for CMD to prevent unintended behavior related to OS signals\nDockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> CMD x\n   3 |     \n--------------------\n"
    );
    assert_eq!(
        report("FROM a").show(&source),
        "Check complete, no warnings found.\n"
    );
}
