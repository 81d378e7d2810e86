//! Secrets, served by the client.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response};

use crate::Status;

/// The most bytes of a secret, as BuildKit has it.
const MAX: usize = 500 * 1024;

/// Where a secret comes from. It is read when a step asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    File(PathBuf),
    /// A variable of our environment.
    Variable(String),
}

impl Secret {
    /// Reads `id=ID[,src=PATH|,env=VARIABLE][,type=file|env]`.
    ///
    /// # Errors
    /// A value that is none, and a file that is not there or too long.
    pub fn parse(value: &str) -> Result<(String, Self), String> {
        let bad = |why: String| format!("could not parse secrets: [{value}]: {why}");
        let mut fields = BTreeMap::new();
        for field in value.split(',') {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| bad(format!("invalid field '{field}' must be a key=value pair")))?;
            let key = match key.to_lowercase().as_str() {
                "source" => "src".to_owned(),
                "id" | "type" | "src" | "env" => key.to_lowercase(),
                _ => return Err(bad(format!("unexpected key '{key}' in '{field}'"))),
            };
            fields.insert(key, value.to_owned());
        }
        let kind = fields.remove("type");
        if let Some(kind) = kind
            .as_deref()
            .filter(|kind| !matches!(*kind, "file" | "env"))
        {
            return Err(bad(format!("unsupported secret type {kind:?}")));
        }
        let source = fields.remove("src").filter(|text| !text.is_empty());
        let variable = fields.remove("env").filter(|text| !text.is_empty());
        let id = fields.remove("id").filter(|text| !text.is_empty());
        let id = id.ok_or_else(|| bad("secret missing id".to_owned()))?;
        let secret = match (kind.as_deref(), source, variable) {
            (Some("env"), source, variable) => {
                Self::Variable(variable.or(source).unwrap_or_else(|| id.clone()))
            }
            (_, None, Some(variable)) => Self::Variable(variable),
            // A variable of this name comes before a file of this name.
            (None, None, None) if env::var_os(&id).is_some() => Self::Variable(id.clone()),
            (_, source, _) => Self::File(PathBuf::from(source.unwrap_or_else(|| id.clone()))),
        };
        if let Self::File(path) = &secret {
            let metadata = path
                .metadata()
                .map_err(|error| bad(format!("failed to stat {}: {error}", path.display())))?;
            if metadata.len() > MAX as u64 {
                let text = format!("secret {id} too big. max size 500KB");
                return Err(bad(text));
            }
        }
        Ok((id, secret))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => read_file(path),
            Self::Variable(name) => Ok(env::var_os(name).unwrap_or_default().into_encoded_bytes()),
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The secrets a client lends, by id.
pub struct Lent(pub BTreeMap<String, Secret>);

#[async_trait::async_trait]
impl Secrets for Lent {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let missing = || Status::not_found(format!("secret {id} not found"));
        let secret = self.0.get(&id).ok_or_else(missing)?;
        let data = secret
            .read()
            .map_err(|error| Status::unknown(format!("secret {id}: {error}")))?;
        if data.len() > MAX {
            return Err(Status::invalid_argument(format!(
                "invalid secret size {}",
                data.len()
            )));
        }
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_or_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let from_file = Secret::File(file.path().to_owned());
        let from_variable = |name: &str| Secret::Variable(name.to_owned());
        for (value, expected) in [
            (format!("id=a,src={path}"), from_file.clone()),
            (format!("id=a,type=file,source={path}"), from_file),
            ("id=a,env=B".to_owned(), from_variable("B")),
            ("id=a,type=env".to_owned(), from_variable("a")),
            ("id=a,type=env,src=C".to_owned(), from_variable("C")),
            ("id=PATH".to_owned(), from_variable("PATH")),
        ] {
            let (id, secret) = Secret::parse(&value).unwrap();
            assert_eq!(id, value["id=".len()..].split(',').next().unwrap());
            assert_eq!(secret, expected, "{value}");
        }
        for (value, expected) in [
            ("id", "must be a key=value pair"),
            ("src=x", "secret missing id"),
            ("id=a,colour=red", "unexpected key 'colour' in 'colour=red'"),
            ("id=a,type=vault", "unsupported secret type \"vault\""),
            ("id=a,src=/nowhere/at/all", "failed to stat /nowhere/at/all"),
        ] {
            let error = Secret::parse(value).unwrap_err();
            assert!(error.contains(expected), "{value}: {error:?}");
        }
    }
}
