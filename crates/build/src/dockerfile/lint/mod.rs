//! The checks of `--check`: 22 rules, each with its page, and the settings that switch them.

mod instructions;
mod options;
mod rules;
mod stages;
mod variables;

pub use options::CheckOptions;
pub use rules::{RULES, Rule, rule};

use std::fmt::Write;

use super::ignore::Ignore;
use super::scope::Arguments;
use super::source::{Lines, Source};
use super::stages::Dockerfile;

/// What a file is checked against.
#[derive(Debug, Default)]
pub struct CheckInput<'a> {
    pub arguments: Arguments,
    /// Settings from outside (`BUILDKIT_DOCKERFILE_CHECK`); they go before the file's own directive.
    pub settings: Option<&'a str>,
    /// The context's ignore file.
    pub ignore: Option<&'a Ignore>,
}

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static Rule,
    /// What exactly is meant.
    pub message: String,
    /// Where; none within an included file.
    pub lines: Option<Lines>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Whether findings make the build fail.
    pub fails: bool,
}

/// Checks a file.
///
/// # Errors
/// The sentence about a setting that can't be read.
pub fn check(file: &Dockerfile, input: &CheckInput<'_>) -> Result<Report, String> {
    let own = file
        .directives
        .check
        .as_ref()
        .map(|(text, _)| text.as_str());
    let options = CheckOptions::parse(input.settings.or(own).unwrap_or_default())?;
    let mut findings = Vec::new();
    stages::check(file, &mut findings);
    instructions::check(file, input.ignore, &mut findings);
    variables::check(file, &input.arguments, &mut findings);
    findings.retain(|finding| options.wants(finding.rule) && !silenced(file, finding));
    findings.sort_by_key(|finding| finding.lines);
    Ok(Report {
        fails: options.error && !findings.is_empty(),
        findings,
    })
}

/// The finding about a base image that is for another platform than the one asked for.
pub fn base_platform(image: &str, got: &str, wanted: &str, lines: Lines) -> Finding {
    Finding {
        rule: rule("InvalidBaseImagePlatform"),
        message: format!(
            "Base image {image} was pulled with platform {got:?}, expected {wanted:?} for current build"
        ),
        lines: Some(lines),
    }
}

/// Whether the comment above the instruction switches the rule off: `# check=skip=Rule`.
fn silenced(file: &Dockerfile, finding: &Finding) -> bool {
    let Some(lines) = finding.lines else {
        return false;
    };
    let mut near = file
        .instructions()
        .filter(|instruction| instruction.file.is_none())
        .filter(|instruction| {
            instruction.lines.start <= lines.start && lines.start <= instruction.lines.end
        });
    near.any(|instruction| {
        instruction.comments.iter().any(|comment| {
            comment
                .strip_prefix("check=")
                .and_then(|text| CheckOptions::parse(text).ok())
                .is_some_and(|options| options.skips(finding.rule))
        })
    })
}

impl Report {
    /// The findings as a build prints them when it is done; nothing when there are none.
    pub fn summary(&self) -> String {
        let count = match self.findings.len() {
            0 => return String::new(),
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        };
        let mut text = format!("\n {count} found:\n");
        for finding in &self.findings {
            let place = finding
                .lines
                .map(|lines| format!(" (line {})", lines.start));
            let place = place.unwrap_or_default();
            let _ = writeln!(text, " - {}: {}{place}", finding.rule.name, finding.message);
        }
        text
    }

    /// The report as `--check` prints it.
    pub fn show(&self, source: &Source) -> String {
        let mut text = match self.findings.len() {
            0 => "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        for finding in &self.findings {
            let url = finding.rule.url();
            let page = url.map_or(String::new(), |url| format!(" - {url}"));
            let _ = write!(
                text,
                "\nWARNING: {}{page}\n{}\n{}\n",
                finding.rule.name, finding.rule.description, finding.message
            );
            if let Some(lines) = finding.lines {
                text.push_str(&source.excerpt(lines));
            }
        }
        text
    }
}
