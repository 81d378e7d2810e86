//! Tests of flag reading against what `docker` 28.2.2 does.

use super::*;

const TABLE: &[Flag] = &[
    switch("all", "Show everything").short('a'),
    switch("interactive", "Keep stdin open").short('i'),
    switch("tty", "Make a terminal").short('t'),
    flag("publish", "list", "Publish a port").short('p'),
    flag("memory", "bytes", "Limit").short('m'),
    flag("name", "string", "A name"),
    flag("last", "int", "So many").short('n').default("-1"),
];

fn read(args: &[&str], interspersed: bool) -> Result<Parsed, String> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    parse(&[TABLE], &args, interspersed)
}

#[test]
fn clusters_and_attached_values() {
    let parsed = read(
        &[
            "-it", "-p80:80", "-p=81", "-p", "82", "--name=x", "-a=false", "img", "-x",
        ],
        false,
    )
    .unwrap();
    assert!(parsed.switch("interactive") && parsed.switch("tty") && !parsed.switch("all"));
    assert!(parsed.changed("all"));
    assert_eq!(parsed.list("publish"), ["80:80", "81", "82"]);
    assert_eq!(parsed.string("name"), "x");
    assert_eq!(parsed.positionals, ["img", "-x"]);
}

#[test]
fn flags_after_arguments_only_where_allowed() {
    let parsed = read(&["x", "-a", "--", "-t"], true).unwrap();
    assert!(parsed.switch("all") && !parsed.switch("tty"));
    assert_eq!(parsed.positionals, ["x", "-t"]);
    assert!(!read(&["x", "-a"], false).unwrap().switch("all"));
}

#[test]
fn errors_read_like_pflag() {
    let cases: &[(&[&str], &str)] = &[
        (&["--foo"], "unknown flag: --foo"),
        (&["-x"], "unknown shorthand flag: 'x' in -x"),
        (&["-ix"], "unknown shorthand flag: 'x' in -x"),
        (&["-p"], "flag needs an argument: 'p' in -p"),
        (&["--name"], "flag needs an argument: --name"),
        (
            &["-m", "x"],
            "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'",
        ),
        (
            &["-a=maybe"],
            "invalid argument \"maybe\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            &["-n", "x"],
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
    ];
    for (args, want) in cases {
        assert_eq!(read(args, true).unwrap_err(), *want);
    }
}

#[test]
fn help_is_wrapped_as_docker_wraps_it() {
    const PS: &[Flag] = &[
        switch("all", "Show all containers (default shows just running)").short('a'),
        flag(
            "filter",
            "filter",
            "Filter output based on conditions provided",
        )
        .short('f'),
        flag(
            "last",
            "int",
            "Show n last created containers (includes all states)",
        )
        .short('n')
        .default("-1"),
        switch(
            "latest",
            "Show the latest created container (includes all states)",
        )
        .short('l'),
    ];
    // Recorded from docker 28.2.2.
    let want = "  -a, --all             Show all containers (default shows just running)
  -f, --filter filter   Filter output based on conditions provided
  -n, --last int        Show n last created containers (includes all
                        states) (default -1)
  -l, --latest          Show the latest created container (includes all
                        states)
";
    assert_eq!(usages(&[PS], 79), want);
}
