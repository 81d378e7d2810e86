//! From words to a verb: global flags, nouns, help, and the errors of both.

use std::ffi::OsString;
use std::path::Path;

use crate::app::App;
use crate::autostart::SpawnCommand;
use crate::command::{Command, Group, Invocation};
use crate::commands::{GROUPS, TOP, unbuilt};
use crate::error::CliError;
use crate::flags::{self, Parsed};
use crate::help;
use crate::printer::Printer;

/// Exit code of a wrong flag.
const BAD_FLAG: i32 = 125;

/// What the words ask for.
enum Target {
    Verb(&'static Command, Invocation),
    Text(String),
    /// Usage of an incomplete call: to standard error, exit code 0.
    Incomplete(String),
}

/// Runs the words.
pub(crate) fn run(argv: Vec<OsString>, spawn: Option<SpawnCommand>) -> i32 {
    let mut words: Vec<String> = argv
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let program = if words.is_empty() {
        String::new()
    } else {
        words.remove(0)
    };
    let program = match Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
    {
        Some("docker") => "docker",
        _ => "cais",
    };
    let globals = match flags::parse(&[help::GLOBAL_FLAGS], &words, false) {
        Ok(globals) => globals,
        Err(error) => {
            return report(&CliError::with_code(
                BAD_FLAG,
                format!(
                    "{error}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
                ),
            ));
        }
    };
    match find(program, &globals) {
        Ok(Target::Text(text)) => {
            Printer.out(&text);
            0
        }
        Ok(Target::Incomplete(text)) => {
            Printer.err(&text);
            0
        }
        Ok(Target::Verb(command, call)) => {
            execute(App::new(program.into(), globals, spawn), command, call)
        }
        Err(error) => report(&error),
    }
}

fn report(error: &CliError) -> i32 {
    if !error.message.is_empty() {
        Printer.err_line(&error.message);
    }
    error.code
}

fn execute(app: App, command: &Command, call: Invocation) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.into()),
    };
    let running = async {
        check_versions(&app, command, &call).await?;
        (command.run)(&app, call).await
    };
    let code = match runtime.block_on(running) {
        Ok(code) => code,
        Err(error) => report(&error),
    };
    runtime.shutdown_background();
    code
}

/// Refuses flags that the daemon is too old for. Only calls that have such flags ask for its version.
async fn check_versions(app: &App, command: &Command, call: &Invocation) -> Result<(), CliError> {
    if flags::needing_versions(command.flags, &call.args)
        .next()
        .is_none()
    {
        return Ok(());
    }
    let client = app.client()?;
    client.negotiate().await?;
    let version = client.api_version();
    let refusals: Vec<String> = flags::too_new(command.flags, &call.args, client.api_minor())
        .iter()
        .map(|(flag, since)| {
            format!(
                "\"--{flag}\" requires API version 1.{since}, but the Docker daemon API version is {version}"
            )
        })
        .collect();
    if refusals.is_empty() {
        return Ok(());
    }
    Err(CliError::new(refusals.join("\n")))
}

fn find(program: &str, globals: &Parsed) -> Result<Target, CliError> {
    if globals.switch("version") {
        return Ok(Target::Text(format!(
            "{} version {}, build cais\n",
            if program == "docker" {
                "Docker"
            } else {
                program
            },
            env!("CARGO_PKG_VERSION")
        )));
    }
    let mut words = globals.positionals.as_slice();
    let mut want_help = globals.help;
    if words.first().is_some_and(|word| word == "help") {
        words = &words[1..];
        want_help = true;
        if let Some(word) = words.first()
            && find_top(word).is_none()
            && find_group(word).is_none()
        {
            return Err(CliError::new(format!(
                "unknown help topic: {}",
                words.join(" ")
            )));
        }
    }
    let Some((word, rest)) = words.split_first() else {
        let text = help::top(program);
        return Ok(if want_help {
            Target::Text(text)
        } else {
            Target::Incomplete(text)
        });
    };
    if let Some(command) = find_top(word) {
        return call(
            program,
            &format!("{program} {word}"),
            command,
            rest,
            want_help,
        );
    }
    match find_group(word) {
        Some(group) => in_group(program, group, rest, want_help),
        None => Err(unbuilt::error(program, word).unwrap_or_else(|| CliError::new(format!(
            "{program}: unknown command: {program} {word}\n\nRun '{program} --help' for more information"
        )))),
    }
}

fn find_top(word: &str) -> Option<&'static Command> {
    TOP.iter()
        .copied()
        .find(|command| command.top == Some(word))
}

fn find_group(word: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == word)
}

fn in_group(
    program: &str,
    group: &'static Group,
    words: &[String],
    want_help: bool,
) -> Result<Target, CliError> {
    let path = format!("{program} {}", group.name);
    let Some((word, rest)) = words
        .split_first()
        .filter(|(word, _)| *word != "--help" && *word != "-h")
    else {
        let text = help::group(program, group);
        return Ok(if want_help || !words.is_empty() {
            Target::Text(text)
        } else {
            Target::Incomplete(text)
        });
    };
    if word.starts_with('-') {
        let error = flags::parse(&[], std::slice::from_ref(word), true)
            .err()
            .unwrap_or_default();
        return Err(CliError::with_code(
            BAD_FLAG,
            format!("{error}\n\nUsage:  {path}\n\nRun '{path} --help' for more information"),
        ));
    }
    let found = group
        .commands
        .iter()
        .find(|command| command.name == word || command.other_names.contains(&word.as_str()));
    match found {
        Some(command) => call(program, &format!("{path} {word}"), command, rest, want_help),
        None => Err(unbuilt::error(program, &format!("{} {word}", group.name)).unwrap_or_else(|| CliError::new(format!(
            "{program}: unknown command: {path} {word}\n\nUsage:  {path}\n\nRun '{path} --help' for more information"
        )))),
    }
}

fn call(
    program: &str,
    path: &str,
    command: &'static Command,
    words: &[String],
    want_help: bool,
) -> Result<Target, CliError> {
    let usage = || help::usage_line(path, command);
    let args = flags::parse(command.flags, words, command.interspersed).map_err(|error| {
        let text = format!(
            "{error}\n\nUsage:  {}\n\nRun '{path} --help' for more information",
            usage()
        );
        CliError::with_code(BAD_FLAG, text)
    })?;
    if args.help || want_help {
        if args.short_help {
            Printer.err_line("Flag shorthand -h has been deprecated, use --help");
        }
        return Ok(Target::Text(help::command(program, path, command)));
    }
    if let Err((text, see)) = command.arguments.check(args.positionals.len()) {
        let verb = if see { "See" } else { "Run" };
        return Err(CliError::new(format!(
            "{program}: '{path}' {text}\n\nUsage:  {}\n\n{verb} '{path} --help' for more information",
            usage()
        )));
    }
    let call = Invocation {
        path: path.to_owned(),
        args,
    };
    Ok(Target::Verb(command, call))
}
