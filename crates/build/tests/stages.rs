//! Stages, their names, and which are needed.

use cais_build::dockerfile::scope::{Arguments, GlobalScope};

use crate::parse;

const FILE: &str = "\
ARG BASE=first
FROM scratch AS First
FROM First AS second
COPY --from=0 a b
FROM scratch AS unused
FROM scratch AS mounted
FROM $BASE AS last
COPY --from=SECOND a b
COPY --from=alpine a b
RUN --mount=type=bind,from=mounted,target=/x true
";

fn bases(text: &str) -> Vec<String> {
    let file = parse(text).unwrap();
    let mut global = GlobalScope::new('\\', &Arguments::default());
    for pair in file.arg_pairs() {
        global.declare(pair).unwrap();
    }
    let expanded = file
        .stages
        .iter()
        .map(|stage| global.expand(&stage.from.base));
    expanded.map(|found| found.unwrap().text).collect()
}

#[test]
fn only_needed_stages_are_built() {
    // row: stage|build|FROM <stage>
    // row: stage|build|stage by index
    // row: stage|build|unused stages
    // row: stage|build|ARG before first FROM
    // row: stage|build|scratch
    let file = parse(FILE).unwrap();
    let needed = |target| -> Vec<usize> {
        let found = file.needed(target, &bases(FILE)).unwrap();
        found.into_iter().collect()
    };
    assert_eq!(needed(4), [0, 1, 3, 4]);
    assert_eq!(needed(1), [0, 1]);
    assert_eq!(needed(2), [2]);
}

#[test]
fn targets_have_names() {
    // row: stage|build|--target
    // row: stage|build|FROM ... AS name
    let file = parse(FILE).unwrap();
    assert_eq!(file.stages[0].from.name.as_deref(), Some("first"));
    assert_eq!(file.target(""), Ok(4));
    assert!(file.target("1").is_err(), "a number is no name");
    assert_eq!(file.target("SECOND"), Ok(1));
    assert_eq!(
        file.target("secnd").unwrap_err(),
        "target stage \"secnd\" could not be found (did you mean second?)"
    );
    assert!(file.target("7").is_err());
}

#[test]
fn from_names_earlier_stages_only() {
    // row: stage|build|context
    let file = parse(FILE).unwrap();
    assert_eq!(file.stage_from("first", 1), Ok(Some(0)));
    assert_eq!(file.stage_from("last", 1), Ok(None));
    assert_eq!(file.stage_from("context", 4), Ok(None));
    assert_eq!(file.stage_from("0", 1), Ok(Some(0)));
    assert!(
        file.stage_from("1", 1)
            .unwrap_err()
            .ends_with("refers to current build stage")
    );
    assert!(
        file.stage_from("9", 1)
            .unwrap_err()
            .ends_with("no such build stage")
    );
    assert!(
        file.stage_from("$x", 1)
            .unwrap_err()
            .starts_with("variable expansion is not supported")
    );
}
