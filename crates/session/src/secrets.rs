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
