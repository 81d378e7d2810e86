//! All containers: found by id, by a unique start of an id, or by name. Readers take a lock for the moment of a look-up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cais_state::{Db, Durability};
use cais_types::{ContainerId, Error, Result};

use crate::container::Container;
use crate::record::{Record, TABLE};

#[derive(Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    /// Also holds names of containers that are being created.
    by_name: HashMap<String, ContainerId>,
    /// Those that have links.
    linking: BTreeSet<ContainerId>,
}

impl Index {
    fn insert(&mut self, container: Arc<Container>) {
        if !container.record().links.is_empty() {
            self.linking.insert(container.id);
        }
        self.by_id.insert(container.id, container);
    }
}

/// The containers and their table.
pub struct Store {
    db: Arc<Db>,
    index: RwLock<Index>,
}

impl Store {
    /// Reads all records.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(db: Arc<Db>) -> Result<Self> {
        let mut index = Index::default();
        for (_, record) in db.all::<Record>(TABLE)? {
            index.by_name.insert(record.name.clone(), record.id);
            index.insert(Container::new(record));
        }
        Ok(Self {
            db,
            index: RwLock::new(index),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every container, by id.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Those that have links to others.
    pub fn linking(&self) -> Vec<Arc<Container>> {
        let index = self.read();
        let linking = index.linking.iter();
        linking
            .filter_map(|id| index.by_id.get(id).cloned())
            .collect()
    }

    /// Finds one by full id.
    pub fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().by_id.get(id).cloned()
    }

    /// Finds one by full id, name (with or without slash) or unique start of its id.
    ///
    /// # Errors
    /// `No such container: x`, `multiple IDs found with provided prefix: x`.
    pub fn find(&self, text: &str) -> Result<Arc<Container>> {
        if text.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        let index = self.read();
        if let Some(container) = text.parse().ok().and_then(|id| index.by_id.get(&id)) {
            return Ok(Arc::clone(container));
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(container) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(Arc::clone(container));
        }
        let missing = || Error::not_found(format!("No such container: {text}"));
        let from = first_id(text).ok_or_else(missing)?;
        let mut matching = index
            .by_id
            .range(from..)
            .take_while(|(id, _)| id.to_string().starts_with(text))
            .map(|(_, container)| container);
        let first = matching.next().ok_or_else(missing)?;
        if matching.next().is_some() {
            return Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            )));
        }
        Ok(Arc::clone(first))
    }

    /// Takes a name for a container that is about to be.
    ///
    /// # Errors
    /// `Conflict. The container name "/x" is already in use by container "ID". ...`.
    pub fn reserve(&self, name: &str, id: ContainerId) -> Result<()> {
        let mut index = self.write();
        if let Some(owner) = index.by_name.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            )));
        }
        index.by_name.insert(name.to_owned(), id);
        Ok(())
    }

    /// Gives a name back, if it is this container's.
    pub fn release(&self, name: &str, id: &ContainerId) {
        let mut index = self.write();
        if index.by_name.get(name) == Some(id) {
            index.by_name.remove(name);
        }
    }

    /// Writes a new record, whose name is reserved, and shows the container.
    ///
    /// # Errors
    /// Those of the database.
    pub fn insert(&self, record: Record, durability: Durability) -> Result<Arc<Container>> {
        self.db
            .put(durability, TABLE, &record.id.to_string(), &record)?;
        let container = Container::new(record);
        self.write().insert(Arc::clone(&container));
        Ok(container)
    }

    /// Changes a record in memory and in the database.
    ///
    /// # Errors
    /// Those of the database; the snapshot is changed nevertheless.
    pub fn change(
        &self,
        container: &Container,
        change: impl FnOnce(&mut Record),
    ) -> Result<Arc<Record>> {
        let record = container.change(change);
        // A removed container must not come back.
        if self.read().by_id.contains_key(&container.id) {
            self.db.put_with_reserve(
                Durability::Process,
                TABLE,
                &container.id.to_string(),
                &*record,
            )?;
        }
        Ok(record)
    }

    /// Forgets a container, its name and its record.
    ///
    /// # Errors
    /// Those of the database; the container stays then.
    pub fn remove(&self, container: &Container, durability: Durability) -> Result<()> {
        self.db
            .delete(durability, TABLE, &container.id.to_string())?;
        let name = container.record().name.clone();
        let mut index = self.write();
        index.by_id.remove(&container.id);
        index.linking.remove(&container.id);
        if index.by_name.get(&name) == Some(&container.id) {
            index.by_name.remove(&name);
        }
        Ok(())
    }
}

/// The smallest id that starts with these hex digits.
fn first_id(prefix: &str) -> Option<ContainerId> {
    let fits = (1..=64).contains(&prefix.len()) && prefix.is_ascii();
    fits.then(|| format!("{prefix:0<64}").parse().ok())
        .flatten()
}
