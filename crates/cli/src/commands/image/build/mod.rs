//! `image build`: make an image from a Dockerfile, by the classic builder of any daemon.

mod attest;
mod body;
mod cache;
mod check;
mod context;
mod layout;
mod loans;
mod named;
mod output;
mod query;
mod shown;

use std::path::Path;

use serde_json::json;

use self::body::Failure;
use self::cache::Caches;
use self::context::{Content, Form};
use self::loans::Lending;
use self::named::Named;
use self::output::{Built, Outputs};
use self::shown::Shown;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::content_trust;
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, flag, switch};
use crate::new_file::NewFile;
use crate::steps::Progress;

/// The verb.
pub const COMMAND: Command = Command {
    name: "build",
    other_names: &[],
    top: Some("build"),
    about: "Make an image from a Dockerfile",
    usage: "[OPTIONS] PATH | URL | -",
    aliases: &["image build", "build", "builder build"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS, content_trust::VERIFY],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "add-host",
        "list",
        "Add a line to /etc/hosts of the steps (host:ip)",
    ),
    flag(
        "annotation",
        "list",
        "Annotate the image ([manifest|index|manifest-descriptor|index-descriptor[[PLATFORM]]:]KEY=VALUE)",
    ),
    flag(
        "attest",
        "list",
        "Attest something of the image (type=provenance,mode=max; type=sbom)",
    ),
    flag("build-arg", "list", "Set a build argument"),
    flag(
        "build-context",
        "list",
        "Another context, known by a name (name=DIRECTORY, name=docker-image://IMAGE, name=oci-layout://DIRECTORY[:TAG], name=URL)",
    ),
    flag(
        "cache-from",
        "list",
        "Take steps from these images (IMAGE, type=registry,ref=IMAGE or type=local,src=DIRECTORY)",
    ),
    flag(
        "cache-to",
        "list",
        "Keep the steps for others (type=inline, type=registry,ref=IMAGE or type=local,dest=DIRECTORY)",
    ),
    flag(
        "cgroup-parent",
        "string",
        "Parent cgroup of the steps' containers",
    ),
    switch("check", "Check the Dockerfile and build nothing"),
    switch("compress", "Send the context compressed with gzip"),
    flag("cpu-period", "int", "CFS period of the steps' containers").default("0"),
    flag("cpu-quota", "int", "CFS quota of the steps' containers").default("0"),
    flag(
        "cpu-shares",
        "int",
        "Relative CPU weight of the steps' containers",
    )
    .short('c')
    .default("0"),
    flag("cpuset-cpus", "string", "CPUs the steps may use (0-3, 0,1)"),
    flag(
        "cpuset-mems",
        "string",
        "Memory nodes the steps may use (0-3, 0,1)",
    ),
    flag(
        "file",
        "string",
        "Path of the Dockerfile (default PATH/Dockerfile)",
    )
    .short('f'),
    switch(
        "force-rm",
        "Remove the containers of steps that failed as well",
    ),
    flag("iidfile", "string", "Write the image's id to a file"),
    flag("isolation", "string", "Isolation of the steps' containers (default)"),
    flag("label", "list", "Set a label of the image"),
    switch("load", "Have the image in the daemon's store (it always is)"),
    flag("memory", "bytes", "Memory limit of the steps' containers")
        .short('m')
        .default("0"),
    flag(
        "memory-swap",
        "bytes",
        "Memory and swap limit of the steps' containers",
    )
    .default("0"),
    flag(
        "metadata-file",
        "string",
        "Write what was made to a file, as JSON",
    ),
    flag("network", "string", "Network of the steps").default("\"default\""),
    switch("no-cache", "Run every step anew"),
    flag(
        "no-cache-filter",
        "strings",
        "Run the steps of these stages anew",
    ),
    flag(
        "output",
        "list",
        "Also write the result (DIRECTORY, -, or type=local|tar|docker|oci|image|registry,dest=PATH)",
    )
    .short('o'),
    flag("platform", "list", "Build for these platforms"),
    flag("progress", "string", "How progress is shown (auto, plain, tty, quiet, rawjson)").default("\"auto\""),
    flag(
        "provenance",
        "string",
        "Attest how the image was built (true, false, mode=min|max)",
    ),
    switch("pull", "Ask the registry for newer base images"),
    switch("push", "Give the image to its registry"),
    switch("quiet", "Show only the image's id").short('q'),
    switch("rm", "Remove the containers of steps").default("true"),
    flag("sbom", "string", "Attest which packages are in the image (true, false)"),
    flag(
        "secret",
        "list",
        "Lend a secret to steps (id=ID[,src=PATH|,env=VARIABLE])",
    ),
    flag(
        "security-opt",
        "strings",
        "Security options of the steps' containers",
    ),
    flag("shm-size", "bytes", "Size of /dev/shm of the steps").default("0"),
    switch("squash", "Make one layer of all above the base"),
    flag(
        "ssh",
        "list",
        "Lend an agent or keys for SSH to steps (default, ID=SOCKET, or ID=KEY[,KEY])",
    ),
    flag("tag", "list", "Name of the image (name[:tag])").short('t'),
    flag("target", "string", "Build up to this stage"),
    flag("ulimit", "list", "Limits of the steps (name=soft[:hard])"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    if args.switch("check") {
        return check::only(app, args);
    }
    content_trust::refuse(args)?;
    let asked = Asked::parse(args)?;
    let quiet = args.switch("quiet");
    let progress = Progress::new(app.printer, &args.string("progress"), quiet)?;
    let client = app.client()?;
    client.negotiate().await?;
    let Asked {
        warnings,
        lending,
        caches,
        mut named,
        content,
        outputs,
        names,
        mut query,
        attested,
    } = asked;
    query.extend(cached(app, &caches).await?);
    let session = lending.begin(client).await?;
    query.extend(session.iter().map(|one| pair("session", one.id.clone())));
    // Public images need none of them, so a helper that fails does not end the build.
    let credentials = app.keychain().header_of_all().ok();
    if !client.is_cais() {
        refuse(args, !attested.is_empty())?;
    }
    query.extend(attested);
    named.load(app, &args.list("platform")).await?;
    if !named.places.is_empty() {
        query.push(pair("contexts", json!(named.places).to_string()));
    }
    // A list of files is short, and what is wanted of them is little.
    let compress = args.switch("compress");
    let form = Form {
        listed: client.is_cais() && (!compress || !named.directories.is_empty()),
        compress,
    };
    let failure = Failure::default();
    let (media_type, body, answer) = content.body(named.directories, form, &failure)?;
    let messages = client
        .image_build(&query, credentials, media_type, body)
        .await
        .map_err(|error| failure.explain(error.into()))?;
    let shown = Shown {
        progress,
        quiet,
        answer,
    };
    let shown = shown.until_the_end(messages).await;
    let (id, images) = shown.map_err(|error| failure.explain(error))?;
    if quiet && !outputs.take_stdout() {
        app.printer.line(&id);
    }
    let built = Built {
        id: &id,
        images: &images,
        names: &names,
        quiet: quiet || outputs.take_stdout(),
    };
    finish(app, args, &outputs, &built).await?;
    caches.give(app, &id, &names).await?;
    if !quiet {
        app.printer.err(&warnings);
    }
    Ok(0)
}

/// What the command line asks for, before a daemon is asked.
struct Asked {
    warnings: String,
    lending: Lending,
    caches: Caches,
    named: Named,
    content: Content,
    outputs: Outputs,
    names: Vec<String>,
    query: Vec<(String, String)>,
    /// What of the query attests something.
    attested: Vec<(String, String)>,
}

impl Asked {
    fn parse(args: &Parsed) -> Result<Self> {
        let warnings = check::before(args)?;
        let lending = Lending::parse(args)?;
        let caches = Caches::parse(args)?;
        let named = Named::parse(args)?;
        let context = context::source(&args.positionals[0], &args.string("file"))?;
        let outputs = Outputs::parse(args)?;
        let names = args.list("tag").into_iter();
        let names: Vec<String> = names.chain(outputs.names().cloned()).collect();
        let several = args.list("platform").join(",").contains(',');
        outputs.check(&names, several)?;
        let mut query = query::of_flags(args, &names)?;
        let attested = attest::wanted(args, &names)?;
        query.push(pair("dockerfile", context.dockerfile));
        if outputs.rewrite_timestamp {
            query.push(pair("rewritetimestamp", "1".to_owned()));
        }
        query.extend(context.remote.map(|remote| pair("remote", remote)));
        Ok(Self {
            warnings,
            lending,
            caches,
            named,
            content: context.content,
            outputs,
            names,
            query,
            attested,
        })
    }
}

fn pair(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// The caches to look in, which are fetched, and the names that stages are to get.
async fn cached(app: &App, caches: &Caches) -> Result<Vec<(String, String)>> {
    let images = caches.fetch(app).await?;
    let from = (!images.is_empty()).then(|| pair("cachefrom", json!(images).to_string()));
    let to = caches.names(app)?;
    let to = to.into_iter().map(|name| pair("cacheto", name));
    Ok(from.into_iter().chain(to).collect())
}

/// What the classic builder of other daemons does not do.
fn refuse(args: &Parsed, attested: bool) -> Result<()> {
    if args.changed("build-context") {
        return Err(CliError::new(
            "--build-context: the classic builder of this daemon takes one context only",
        ));
    }
    if attested {
        return Err(CliError::new(
            "--attest, --provenance, --sbom, --annotation: the classic builder of this daemon attests nothing",
        ));
    }
    Ok(())
}

/// Makes what is wanted of the image besides it.
async fn finish(app: &App, args: &Parsed, outputs: &Outputs, built: &Built<'_>) -> Result<()> {
    if let Some(path) = args.value("iidfile").filter(|path| !path.is_empty()) {
        let mut file = NewFile::create(Path::new(path))?;
        file.write_all(built.id.as_bytes())?;
        file.keep()?;
    }
    let digest = outputs.make(app, built).await?;
    if let Some(path) = args.value("metadata-file").filter(|path| !path.is_empty()) {
        output::write_metadata(path, built, digest.as_deref())?;
    }
    Ok(())
}
