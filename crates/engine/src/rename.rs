//! `POST /containers/{id}/rename`.

use std::sync::Arc;

use cais_types::{Error, ErrorClass, Result};

use crate::container::Container;
use crate::house::House;
use crate::names;

/// Gives a container another name.
///
/// # Errors
/// Docker's: empty, wrong, the same, or in use.
pub async fn rename(house: &Arc<House>, container: &Arc<Container>, new_name: &str) -> Result<()> {
    if new_name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    let name = names::check(new_name)
        .map_err(|error| Error::invalid(format!("Error when allocating new name: {error}")))?;
    let _operation = container.operation.lock().await;
    let old = container.record().name.clone();
    if old == name {
        return Err(Error::invalid(
            "Renaming a container with the same name as its current name",
        ));
    }
    house.store.reserve(name, container.id).map_err(|error| {
        Error::new(
            ErrorClass::Conflict,
            format!("Error when allocating new name: {error}"),
        )
    })?;
    let renamed = house
        .store
        .change(container, |record| name.clone_into(&mut record.name));
    match renamed {
        Ok(record) => {
            house.store.release(&old, &container.id);
            house
                .events
                .container(&record, "rename", &[("oldName", format!("/{old}"))]);
            Ok(())
        }
        Err(error) => {
            container.change(|record| record.name = old);
            house.store.release(name, &container.id);
            Err(error)
        }
    }
}
