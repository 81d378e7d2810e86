//! Requests that reach a registry through the daemon: the user's credentials go with them, and are asked for when the
//! daemon says that they do not do.

use std::future::Future;

use cais_client::ClientError;
use cais_client::credentials::{AuthConfig, DOCKER_HUB, registry_key};

use crate::app::App;
use crate::error::{CliError, Result};
use crate::{note, prompt, terminal};

const UNAUTHORIZED: u16 = 401;

/// Makes a request with the credentials for a registry; when they are refused and there is somebody to ask, asks for
/// others and tries once more.
///
/// # Errors
/// Those of the request, and of the questions.
pub async fn privileged<T, F>(
    app: &App,
    domain: &str,
    doing: &str,
    request: impl Fn(String) -> F,
) -> Result<T>
where
    F: Future<Output = cais_client::Result<T>>,
{
    let refused = match request(app.registry_auth(domain)).await {
        Err(error @ ClientError::Daemon { status, .. }) if status == UNAUTHORIZED => error,
        result => return Ok(result?),
    };
    if !terminal::is_terminal(&std::io::stdin()) {
        return Err(refused.into());
    }
    app.printer.out(&format!("\nLogin prior to {doing}:\n"));
    let server = registry_key(domain);
    let known = app.keychain().resolve(server).username;
    let answers = Asked {
        server,
        username: "",
        password: "",
        known: &known,
    };
    let auth = ask(app, answers).await?;
    Ok(request(auth.header()).await?)
}

/// What is known before somebody is asked.
pub struct Asked<'a> {
    /// Whom the credentials are for.
    pub server: &'a str,
    /// Empty when it has to be asked for.
    pub username: &'a str,
    /// Empty when it has to be asked for.
    pub password: &'a str,
    /// The user when the answer is empty.
    pub known: &'a str,
}

/// Asks for what is missing of a registry's credentials.
///
/// # Errors
/// An empty answer, or the user leaves.
pub async fn ask(app: &App, asked: Asked<'_>) -> Result<AuthConfig> {
    let hub = asked.server == DOCKER_HUB;
    let mut username = asked.username.trim().to_owned();
    if username.is_empty() {
        if hub {
            introduce_hub(app);
        }
        let question = match asked.known.trim() {
            "" => "Username: ".to_owned(),
            known => format!("Username ({known}): "),
        };
        username = prompt::line(&app.printer, &question).await?;
        if username.is_empty() {
            asked.known.trim().clone_into(&mut username);
        }
        if username.is_empty() {
            return Err(CliError::new("Error: Non-null Username Required"));
        }
    }
    let mut password = asked.password.to_owned();
    if password.trim().is_empty() {
        if hub {
            note::print(
                app.printer,
                note::Target::Stderr,
                "A Personal Access Token (PAT) can be used instead.\nTo create a PAT, visit \
                 _https://app.docker.com/settings_\n\n",
            );
        }
        password = prompt::secret(&app.printer, "Password: ").await?;
        if password.is_empty() {
            return Err(CliError::new("Error: Password Required"));
        }
    }
    Ok(AuthConfig {
        username,
        password,
        serveraddress: asked.server.to_owned(),
        ..AuthConfig::default()
    })
}

fn introduce_hub(app: &App) {
    app.printer.out(
        "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a \
         Docker ID, head over to https://hub.docker.com/ to create one.\n\
         You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better \
         security and is required for organizations using SSO. Learn more at \
         https://docs.docker.com/go/access-tokens/\n\n",
    );
}
