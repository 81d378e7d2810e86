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

use std::path::Path;

use cais_build::directory::Directory;
use cais_build::listing;
use cais_client::answer::JsonLines;
use cais_client::body::Body;
use serde_json::{Map, Value, json};

use self::body::{Answer, Failure};
use self::cache::Caches;
use self::context::Content;
use self::loans::Lending;
use self::named::Named;
use self::output::{Built, Outputs};
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

/// The variable that says when what is made was made.
const SOURCE_DATE: &str = "SOURCE_DATE_EPOCH";

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    if args.switch("check") {
        return check::only(app, args);
    }
    content_trust::refuse(args)?;
    let warnings = check::before(args)?;
    let lending = Lending::parse(args)?;
    let caches = Caches::parse(args)?;
    let mut named = Named::parse(args)?;
    let context = context::source(&args.positionals[0], &args.string("file"))?;
    let outputs = Outputs::parse(args)?;
    let names: Vec<String> = args
        .list("tag")
        .into_iter()
        .chain(outputs.names().cloned())
        .collect();
    let several = args.list("platform").join(",").contains(',');
    outputs.check(&names, several)?;
    let mut query = query(args, &names)?;
    let attested = attest::wanted(args, &names)?;
    query.push(("dockerfile".to_owned(), context.dockerfile));
    if outputs.rewrite_timestamp {
        query.push(("rewritetimestamp".to_owned(), "1".to_owned()));
    }
    if let Some(remote) = context.remote {
        query.push(("remote".to_owned(), remote));
    }
    let quiet = args.switch("quiet");
    let progress = Progress::new(app.printer, &args.string("progress"), quiet)?;
    let client = app.client()?;
    client.negotiate().await?;
    let images = caches.fetch(app).await?;
    if !images.is_empty() {
        query.push(("cachefrom".to_owned(), json!(images).to_string()));
    }
    for name in caches.names(app)? {
        query.push(("cacheto".to_owned(), name));
    }
    let session = lending.begin(client).await?;
    if let Some(session) = &session {
        query.push(("session".to_owned(), session.id.clone()));
    }
    // Public images need none of them, so a helper that fails does not end the build.
    let credentials = app.keychain().header_of_all().ok();
    if !client.is_cais() {
        refuse(args, !attested.is_empty())?;
    }
    query.extend(attested);
    named.load(app, &args.list("platform")).await?;
    if !named.places.is_empty() {
        query.push(("contexts".to_owned(), json!(named.places).to_string()));
    }
    // A list of files is short, and what is wanted of them is little.
    let compress = args.switch("compress");
    let form = Form {
        listed: client.is_cais() && (!compress || !named.directories.is_empty()),
        compress,
    };
    let failure = Failure::default();
    let (media_type, body, answer) = sent(context.content, named.directories, form, &failure)?;
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

/// How a directory is sent.
#[derive(Clone, Copy)]
struct Form {
    /// As a list of what there is, to a daemon that may have it.
    listed: bool,
    compress: bool,
}

/// The body of the request, its type, and who waits for what is wanted of it.
fn sent(
    content: Content,
    named: Vec<(String, Directory)>,
    form: Form,
    failure: &Failure,
) -> Result<(&'static str, Body, Option<Answer>)> {
    match content {
        Content::Directory(directory) if form.listed => {
            let mut directories = vec![(String::new(), directory)];
            directories.extend(named);
            let (body, answer) = body::listed(directories, failure);
            Ok((listing::MEDIA_TYPE, body, Some(answer)))
        }
        _ if !named.is_empty() => Err(CliError::new(
            "--build-context with a directory wants a directory as the context of the build too",
        )),
        Content::Directory(directory) => {
            let body = match form.compress {
                true => body::compressed(directory, failure),
                false => body::archive(directory, None, failure),
            };
            Ok(("application/x-tar", body, None))
        }
        Content::Body(body) => Ok(("application/x-tar", body, None)),
    }
}

/// A build that is shown.
struct Shown {
    progress: Progress,
    /// A quiet build says nothing but the id.
    quiet: bool,
    /// Who waits for what the daemon wants of the context.
    answer: Option<Answer>,
}

impl Shown {
    /// Shows a build until its end; answers the image's id, and of several platforms those of all.
    async fn until_the_end(
        mut self,
        mut messages: JsonLines,
    ) -> Result<(String, Vec<(String, String)>)> {
        let (mut id, mut images) = (String::new(), Vec::new());
        while let Some(message) = messages.next::<Value>().await? {
            if let Some(error) = message["error"].as_str().filter(|text| !text.is_empty()) {
                let code = message["errorDetail"]["code"].as_i64().unwrap_or(0);
                let code = i32::try_from(code).ok().filter(|code| *code != 0);
                self.progress.failed(error);
                return Err(CliError::with_code(code.unwrap_or(1), error));
            }
            if let Some(wanted) = message["aux"].get("Wanted") {
                let wanted = serde_json::from_value(wanted.clone());
                let wanted = wanted.map_err(|error| CliError::new(error.to_string()))?;
                // Whoever waited for it may have failed; then the daemon hears of that.
                let _ = self.answer.take().map(|answer| answer.send(wanted));
                continue;
            }
            if let Some(made) = message["aux"]["ID"].as_str() {
                made.clone_into(&mut id);
                if let Some(platform) = message["aux"]["Platform"].as_str() {
                    images.push((platform.to_owned(), id.clone()));
                }
            }
            let text = message["stream"].as_str().unwrap_or_default().trim();
            if self.quiet && text.starts_with("sha256:") {
                text.clone_into(&mut id);
            }
            self.progress.take(&message);
        }
        self.progress.done(&id);
        Ok((id, images))
    }
}

/// The parameters of the request.
fn query(args: &Parsed, names: &[String]) -> Result<Vec<(String, String)>> {
    let mut query: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
    for name in names {
        add("t", name.clone());
    }
    for host in args.list("add-host") {
        let host = host.replacen('=', ":", usize::from(!host.contains(':')));
        add("extrahosts", host);
    }
    for (flag, name) in [
        ("quiet", "q"),
        ("no-cache", "nocache"),
        ("pull", "pull"),
        ("squash", "squash"),
        ("force-rm", "forcerm"),
    ] {
        if args.switch(flag) {
            add(name, "1".to_owned());
        }
    }
    add(
        "rm",
        if args.switch_or("rm", true) { "1" } else { "0" }.to_owned(),
    );
    for stage in no_cache_filter(args)? {
        add("nocachefilter", stage);
    }
    for (flag, name) in [
        ("target", "target"),
        ("network", "networkmode"),
        ("cgroup-parent", "cgroupparent"),
        ("isolation", "isolation"),
        ("cpuset-cpus", "cpusetcpus"),
        ("cpuset-mems", "cpusetmems"),
        ("cpu-period", "cpuperiod"),
        ("cpu-quota", "cpuquota"),
        ("cpu-shares", "cpushares"),
    ] {
        if let Some(value) = args.value(flag).filter(|value| !value.is_empty()) {
            add(name, value.to_owned());
        }
    }
    for (flag, name) in [
        ("memory", "memory"),
        ("memory-swap", "memswap"),
        ("shm-size", "shmsize"),
    ] {
        if args.changed(flag) {
            add(name, args.bytes(flag).to_string());
        }
    }
    let platforms = args.list("platform");
    if !platforms.is_empty() {
        add("platform", platforms.join(","));
    }
    add("buildargs", Value::Object(build_args(args)).to_string());
    add("labels", Value::Object(labels(args)).to_string());
    for option in args.list("security-opt") {
        add("securityopt", option);
    }
    let limits = args.list("ulimit");
    if !limits.is_empty() {
        let limits: Vec<Value> = limits
            .iter()
            .map(|text| ulimit(text))
            .collect::<Result<_>>()?;
        add("ulimits", Value::Array(limits).to_string());
    }
    Ok(query)
}

/// The stages to run anew.
fn no_cache_filter(args: &Parsed) -> Result<Vec<String>> {
    let lists = args.list("no-cache-filter");
    let stages: Vec<String> = lists
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::to_owned)
        .collect();
    if !stages.is_empty() && args.switch("no-cache") {
        return Err(CliError::new(
            "--no-cache and --no-cache-filter cannot currently be used together",
        ));
    }
    Ok(stages)
}

/// `NAME=value`; a name alone takes its value from our environment, or stays without one. The time of what is made is
/// taken from there in any case.
fn build_args(args: &Parsed) -> Map<String, Value> {
    let arg = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), json!(value)),
        None => {
            let value = std::env::var(&text).ok();
            (text, json!(value))
        }
    };
    let mut given: Map<String, Value> = args.list("build-arg").into_iter().map(arg).collect();
    if let Ok(time) = std::env::var(SOURCE_DATE) {
        given.entry(SOURCE_DATE).or_insert(json!(time));
    }
    given
}

fn labels(args: &Parsed) -> Map<String, Value> {
    let label = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), json!(value)),
        None => (text, json!("")),
    };
    args.list("label").into_iter().map(label).collect()
}

/// `name=soft[:hard]`.
fn ulimit(text: &str) -> Result<Value> {
    let bad = || CliError::new(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    Ok(json!({ "Name": name, "Soft": number(soft)?, "Hard": number(hard)? }))
}
