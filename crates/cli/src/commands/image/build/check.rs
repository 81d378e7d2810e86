//! The checks of a Dockerfile: alone, as `--check` asks, or beside a build.

use cais_build::dockerfile::lint::{self, CheckInput, Report};
use cais_build::dockerfile::scope::Arguments;
use cais_build::dockerfile::{Dockerfile, platform};
use cais_types::oci::Platform;

use super::context::{Checked, checked};
use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// Settings of checks that come with the build's arguments.
const SETTINGS: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// `--check`: prints what the checks find; findings are an exit code of 1.
///
/// # Errors
/// A Dockerfile that can't be read or understood.
pub fn only(app: &App, args: &Parsed) -> Result {
    let read = checked(&args.positionals[0], &args.string("file"))?;
    let Some(read) = read else {
        return Err(CliError::new(
            "--check needs a Dockerfile in a local directory",
        ));
    };
    let file = Dockerfile::parse(read.source.clone())
        .map_err(|error| CliError::new(error.show(&read.source)))?;
    let report = report(&file, &read, args)?;
    app.printer.out(&report.show(&read.source));
    Ok(i32::from(!report.findings.is_empty()))
}

/// The warnings to show after a build, as BuildKit shows them. A file that can't be understood is left to the daemon.
///
/// # Errors
/// Findings in a file whose settings say that they fail the build.
pub fn before(args: &Parsed) -> Result<String> {
    let read = checked(&args.positionals[0], &args.string("file"))?;
    let Some(read) = read else {
        return Ok(String::new());
    };
    let Ok(file) = Dockerfile::parse(read.source.clone()) else {
        return Ok(String::new());
    };
    let report = report(&file, &read, args)?;
    if report.fails {
        let mut rules: Vec<&str> = report.findings.iter().map(|one| one.rule.name).collect();
        rules.sort_unstable();
        rules.dedup();
        return Err(CliError::new(format!(
            "failed to solve: lint violation found for rules: {}",
            rules.join(", ")
        )));
    }
    Ok(report.summary())
}

fn report(file: &Dockerfile, read: &Checked, args: &Parsed) -> Result<Report> {
    let given = super::query::build_args(args);
    let given = given.into_iter();
    let given = given.filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
    let host = Platform::host();
    // What is found is the same for all platforms.
    let platforms = args.list("platform").join(",");
    let target = match platforms.split(',').find(|text| !text.is_empty()) {
        Some(text) => text
            .parse()
            .map_err(|error| CliError::new(format!("{error}")))?,
        None => host.clone(),
    };
    let arguments = Arguments {
        given: given.collect(),
        platform: platform::arguments(&host, &target, &args.string("target")),
    };
    let settings = arguments.given.get(SETTINGS).cloned();
    let input = CheckInput {
        arguments,
        settings: settings.as_deref(),
        ignore: Some(&read.ignore),
    };
    lint::check(file, &input).map_err(CliError::new)
}
