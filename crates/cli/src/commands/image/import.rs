//! `image import`: make an image from the tar archive of a filesystem.

use cais_client::api::options::ImportOptions;
use cais_client::body::Body;
use cais_types::Reference;

use crate::app::App;
use crate::archive;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::progress::{self, Target};

/// The verb.
pub const COMMAND: Command = Command {
    name: "import",
    other_names: &[],
    top: Some("import"),
    about: "Make an image from the tar archive of a filesystem",
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    aliases: &["image import", "import"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "change",
        "list",
        "Apply a Dockerfile instruction to the image",
    )
    .short('c'),
    flag("message", "string", "Commit message of the image").short('m'),
    flag(
        "platform",
        "string",
        "Platform of the image (os[/arch[/variant]])",
    )
    .since(32),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let source = args.positionals[0].as_str();
    let name = args.positionals.get(1).map_or("", String::as_str);
    if !name.is_empty() {
        name.parse::<Reference>()
            .map_err(|error| CliError::new(error.to_string()))?;
    }
    let from_url = source.starts_with("http://") || source.starts_with("https://");
    let body = if from_url {
        Body::Empty
    } else {
        archive::source(source)?
    };
    let options = ImportOptions {
        source: if from_url { source } else { "-" }.to_owned(),
        repo: name.to_owned(),
        tag: String::new(),
        message: args.string("message"),
        changes: args.list("change"),
        platform: args.string("platform"),
    };
    let client = app.client()?;
    client.negotiate().await?;
    let messages = client.image_import(&options, body).await?;
    progress::show(messages, Target::Stdout, app.printer).await?;
    Ok(0)
}
