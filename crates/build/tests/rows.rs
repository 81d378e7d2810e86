//! Every row of the language's reference is named by a test: `row: kind|scope|name` above the code that proves it.

#[test]
fn every_row_of_the_reference_is_named_by_a_test() {
    let sources = [
        include_str!("arguments.rs"),
        include_str!("contexts.rs"),
        include_str!("heredocs.rs"),
        include_str!("ignore.rs"),
        include_str!("instructions.rs"),
        include_str!("lint.rs"),
        include_str!("mounts.rs"),
        include_str!("parser.rs"),
        include_str!("stages.rs"),
        include_str!("variables.rs"),
    ];
    let named: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.trim().strip_prefix("// row: "))
        .collect();
    let rows: Vec<&str> = include_str!("rows.txt").lines().collect();
    let missing: Vec<&&str> = rows.iter().filter(|row| !named.contains(row)).collect();
    assert!(missing.is_empty(), "no test names {missing:#?}");
    let unknown: Vec<&&str> = named.iter().filter(|row| !rows.contains(row)).collect();
    assert!(unknown.is_empty(), "the reference has no row {unknown:#?}");
}
