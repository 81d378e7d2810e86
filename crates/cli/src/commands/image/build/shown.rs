//! A build that goes on: what is shown of it, and what it wants of the context.

use cais_client::answer::JsonLines;
use serde_json::Value;

use super::body::Answer;
use crate::error::{CliError, Result};
use crate::steps::Progress;

/// A build that is shown.
pub struct Shown {
    pub progress: Progress,
    /// A quiet build says nothing but the id.
    pub quiet: bool,
    /// Who waits for what the daemon wants of the context.
    pub answer: Option<Answer>,
}

impl Shown {
    /// Shows a build until its end; answers the image's id, and of several platforms those of all.
    ///
    /// # Errors
    /// Those of the build, and of the connection.
    pub async fn until_the_end(
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
