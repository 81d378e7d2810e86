//! `image save`: write images as a tar archive.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use cais_types::error::plain;
use futures_util::StreamExt as _;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::new_file::NewFile;
use crate::{platform, terminal};

/// The verb.
pub const COMMAND: Command = Command {
    name: "save",
    other_names: &[],
    top: Some("save"),
    about: "Write one or more images as a tar archive",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    aliases: &["image save", "save"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("output", "string", "Write to a file, instead of STDOUT").short('o'),
    flag(
        "platform",
        "string",
        "Write only this platform (os[/arch[/variant]])",
    )
    .since(48),
];

async fn run(app: &App, call: Invocation) -> Result {
    let platform = platform::optional(call.args.value("platform"))
        .map_err(|error| CliError::new(format!("invalid platform: {error}")))?;
    let output = call.args.string("output");
    let failed = |cause: String| CliError::new(format!("failed to save image: {cause}"));
    if output.is_empty() && terminal::is_terminal(&std::io::stdout()) {
        return Err(CliError::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    check_output(Path::new(&output)).map_err(failed)?;
    let mut archive = app
        .client()?
        .image_save(&call.args.positionals, platform.as_ref())
        .await?;
    if output.is_empty() {
        while let Some(piece) = archive.next().await {
            app.printer.out_bytes(&piece?)?;
        }
        return Ok(0);
    }
    let failed = |error: std::io::Error| failed(plain(&error));
    let mut file = NewFile::create(Path::new(&output)).map_err(failed)?;
    while let Some(piece) = archive.next().await {
        file.write_all(&piece?).map_err(failed)?;
    }
    file.keep().map_err(failed)?;
    Ok(0)
}

/// Whether an archive can be written there.
fn check_output(path: &Path) -> std::result::Result<(), String> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory
        && !directory.exists()
    {
        return Err(format!(
            "invalid output path: stat {}: no such file or directory",
            directory.display()
        ));
    }
    match fs::metadata(path).map(|meta| meta.file_type()) {
        Ok(kind) if kind.is_dir() => Err("cannot write to a directory".into()),
        Ok(kind) if kind.is_char_device() => Err("cannot write to a character device file".into()),
        Ok(kind) if kind.is_block_device() => Err("cannot write to a block device file".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_checked_before_the_daemon_is_asked() {
        let said = |path: &str| check_output(Path::new(path)).unwrap_err();
        assert_eq!(said("/tmp"), "cannot write to a directory");
        assert_eq!(said("/dev/null"), "cannot write to a character device file");
        assert_eq!(
            said("/nonexist/x"),
            "invalid output path: stat /nonexist: no such file or directory"
        );
        assert_eq!(check_output(Path::new("/tmp/x.tar")), Ok(()));
    }
}
