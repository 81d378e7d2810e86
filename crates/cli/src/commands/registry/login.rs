//! `login`: ask a registry whether it knows a user, and keep the credentials.

use cais_client::ClientError;
use cais_client::credentials::{AuthConfig, DOCKER_HUB, Stored, host_of};

use crate::app::{AUTH_VARIABLE, App, env};
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, flag, parse_bool, switch};
use crate::registry_access::{Asked, ask};
use crate::stdin::Stdin;
use crate::{note, terminal};

/// The verb.
pub const COMMAND: Command = Command {
    name: "login",
    other_names: &[],
    top: Some("login"),
    about: "Log in to a registry; Docker Hub unless one is named",
    usage: "[OPTIONS] [SERVER]",
    aliases: &[],
    arguments: Arguments::AtMost(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "password",
        "string",
        "Password or Personal Access Token (PAT)",
    )
    .short('p'),
    switch("password-stdin", "Read the password or token from STDIN"),
    flag("username", "string", "Username").short('u'),
];

/// Turns the login in a browser off.
const NO_BROWSER: &str = "DOCKER_CLI_DISABLE_OAUTH_LOGIN";

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    check(args)?;
    let username = args.string("username");
    let mut password = args.string("password");
    if !password.is_empty() {
        app.printer
            .err_line("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if args.switch("password-stdin") {
        password = password_from_stdin().await?;
    }
    if app.keychain().has_preset() {
        app.printer.err_line(&format!(
            "WARNING: {AUTH_VARIABLE} is set and takes precedence."
        ));
    }
    let server = match args.positionals.first().map(String::as_str) {
        None | Some("" | "docker.io" | DOCKER_HUB) => DOCKER_HUB,
        Some(address) => host_of(address),
    };
    let mut known = AuthConfig::default();
    if username.is_empty() && password.is_empty() {
        // A helper that fails has said so on standard error.
        known = app.keychain().get(server).unwrap_or_default();
        if !known.username.is_empty() && !known.password.is_empty() {
            server.clone_into(&mut known.serveraddress);
            if let Some(status) = with_stored(app, &known).await? {
                tell(app, &status);
                return Ok(0);
            }
        }
    }
    let asked = Asked {
        server,
        username: &username,
        password: &password,
        known: &known.username,
    };
    let status = with_answers(app, asked).await?;
    tell(app, &status);
    Ok(0)
}

fn check(args: &Parsed) -> Result<()> {
    let refuse = |text: &str| Err(CliError::new(text));
    if args.changed("password-stdin") {
        if args.changed("password") {
            return refuse(
                "conflicting options: cannot specify both --password and --password-stdin",
            );
        }
        if !args.changed("username") {
            return refuse("the --password-stdin option requires --username to be set");
        }
    }
    for name in ["username", "password"] {
        if args.value(name) == Some("") {
            return refuse(&format!("{name} is empty"));
        }
    }
    Ok(())
}

async fn password_from_stdin() -> Result<String> {
    let stdin = Stdin::open();
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stdin.read(&mut piece).await? {
            0 => break,
            read => text.extend_from_slice(&piece[..read]),
        }
    }
    let text = String::from_utf8_lossy(&text);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Tries credentials that are kept already: what the registry says, `None` when it does not like them.
async fn with_stored(app: &App, auth: &AuthConfig) -> Result<Option<String>> {
    app.printer.err_line(&format!(
        "Authenticating with existing credentials... [Username: {}]",
        auth.username
    ));
    let program = &app.program;
    let advice = format!(
        "To login with a different account, run '{program} logout' followed by '{program} login'"
    );
    note::print(app.printer, note::Target::Stderr, &advice);
    app.printer.err("\n\n");
    match app.client()?.login(auth).await {
        Ok(answer) => {
            keep(app, auth, answer.identity_token)?;
            Ok(Some(answer.status))
        }
        Err(ClientError::Daemon { status: 401, .. }) => {
            app.printer
                .err_line("Stored credentials invalid or expired");
            Ok(None)
        }
        Err(error) => {
            app.printer
                .err_line(&format!("Login did not succeed, error: {error}"));
            Ok(None)
        }
    }
}

async fn with_answers(app: &App, asked: Asked<'_>) -> Result<String> {
    let complete = !asked.username.is_empty() && !asked.password.is_empty();
    if !complete && !terminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let nothing_given = asked.username.is_empty() && asked.password.is_empty();
    let browser = !env(NO_BROWSER).is_some_and(|text| parse_bool(&text).unwrap_or(false));
    if asked.server == DOCKER_HUB && nothing_given && browser {
        app.printer.err(
            "Logging in through a browser is not built yet - going on with the command line login...\n\n",
        );
    }
    let auth = ask(app, asked).await?;
    let answer = app.client()?.login(&auth).await?;
    keep(app, &auth, answer.identity_token)?;
    Ok(answer.status)
}

/// Keeps credentials, with the token the registry gave instead of the password.
fn keep(app: &App, auth: &AuthConfig, identity_token: String) -> Result<()> {
    let mut auth = auth.clone();
    if !identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = identity_token;
    }
    let stored = app
        .keychain()
        .store(&auth)
        .map_err(|error| CliError::new(format!("Error saving credentials: {error}")))?;
    if let Stored::Plain(path) = stored {
        app.printer.err(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            path.display()
        ));
    }
    Ok(())
}

fn tell(app: &App, status: &str) {
    if !status.is_empty() {
        app.printer.line(status);
    }
}
