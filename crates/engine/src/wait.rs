//! `POST /containers/{id}/wait`.

use std::sync::Arc;

use cais_types::api::query::WaitCondition;
use cais_types::api::{ContainerWaitError, ContainerWaitResponse};
use cais_types::{Error, Result};
use futures_core::future::BoxFuture;

use crate::container::{Container, Life};

/// The future that ends when the condition holds. It counts from now, not from its first poll.
pub fn wait(
    container: &Arc<Container>,
    condition: WaitCondition,
) -> BoxFuture<'static, Result<ContainerWaitResponse>> {
    let mut life = container.life.subscribe();
    let exits = life.borrow().exits;
    Box::pin(async move {
        let holds = move |life: &Life| match condition {
            WaitCondition::NotRunning => !life.running || life.exits > exits || life.removed,
            WaitCondition::NextExit => life.exits > exits || life.removed,
            WaitCondition::Removed => life.removed || life.removal_error.is_some(),
        };
        let life = life
            .wait_for(holds)
            .await
            .map_err(|_| Error::internal("the container is gone"))?;
        let message = life.removal_error.clone();
        Ok(ContainerWaitResponse {
            error: message.map(|message| ContainerWaitError { message }),
            status_code: life.code.into(),
        })
    })
}
