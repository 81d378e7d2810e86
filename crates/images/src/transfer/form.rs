//! Compressed forms of layers that registries have or had: what need not be compressed or sent again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cais_state::Durability;
use cais_types::Digest;
use cais_types::oci::Descriptor;
use serde::{Deserialize, Serialize};

use super::compress::ENCODER;
use crate::error::ImageError;
use crate::model::FORMS;
use crate::store::Store;

/// Forms kept of one layer.
const FORMS_MAX: usize = 8;
/// Repositories kept of one form.
const REPOSITORIES_MAX: usize = 50;

/// A compressed form of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Repositories (`domain/path`) that had it, the most recent first.
    pub repositories: Vec<String>,
    /// The version of our encoder that made it, when it was made here.
    #[serde(default)]
    encoder: Option<u32>,
}

impl Form {
    /// Whether it is gzip.
    pub fn is_gzip(&self) -> bool {
        self.media_type.ends_with("gzip")
    }

    /// Whether [`Store::write_layer`] makes it again byte by byte.
    pub fn reproducible(&self) -> bool {
        self.encoder == Some(ENCODER)
    }
}

/// A form of a layer that a repository was seen to have.
#[derive(Clone, Debug)]
pub struct SeenForm {
    /// The layer's diff id.
    pub diff: Digest,
    pub blob: Descriptor,
    /// `domain/path`; empty where no registry has it.
    pub repository: String,
    /// Whether this store made it, with the compression it has now.
    pub reproducible: bool,
}

impl Store {
    /// The known forms of a layer, the most recent first.
    pub(crate) fn forms(&self, diff: &Digest) -> Result<Vec<Form>, ImageError> {
        Ok(self.db.get(FORMS, &diff.hex())?.unwrap_or_default())
    }

    /// Remembers a form.
    pub fn remember_form(&self, seen: &SeenForm) -> Result<(), ImageError> {
        let _changing = self.changing();
        for (diff, forms) in self.with_forms(std::slice::from_ref(seen))? {
            // A layer that has gone meanwhile has no forms to remember.
            if self.read().layers.values().any(|layer| layer.diff == diff) {
                self.db
                    .put_with_reserve(Durability::Process, FORMS, &diff.hex(), &forms)?;
            }
        }
        Ok(())
    }

    /// What is known of these layers with what was seen added; the caller holds [`Store::changing`].
    pub(crate) fn with_forms(
        &self,
        seen: &[SeenForm],
    ) -> Result<BTreeMap<Digest, Vec<Form>>, ImageError> {
        let mut known = BTreeMap::new();
        for one in seen {
            let forms = match known.entry(one.diff) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.forms(&one.diff)?),
            };
            add(forms, one);
        }
        Ok(known)
    }
}

/// Puts what was seen to the front.
fn add(forms: &mut Vec<Form>, seen: &SeenForm) {
    let place = forms
        .iter()
        .position(|form| form.digest == seen.blob.digest);
    let mut form = match place {
        Some(place) => forms.remove(place),
        None => Form {
            media_type: seen.blob.media_type.clone(),
            digest: seen.blob.digest,
            size: seen.blob.size,
            repositories: Vec::new(),
            encoder: None,
        },
    };
    if seen.reproducible {
        form.encoder = Some(ENCODER);
    }
    if !seen.repository.is_empty() {
        form.repositories.retain(|one| *one != seen.repository);
        form.repositories.insert(0, seen.repository.clone());
    }
    form.repositories.truncate(REPOSITORIES_MAX);
    forms.insert(0, form);
    forms.truncate(FORMS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seen_form_and_repository_come_first_and_their_number_is_bounded() {
        let mut forms = Vec::new();
        let seen = |byte: u8, repository: &str, reproducible| SeenForm {
            diff: Digest::from_bytes([0; 32]),
            blob: Descriptor::new("t", Digest::from_bytes([byte; 32]), 1),
            repository: repository.to_owned(),
            reproducible,
        };
        add(&mut forms, &seen(1, "a", true));
        add(&mut forms, &seen(2, "a", false));
        add(&mut forms, &seen(1, "b", false));
        assert_eq!(forms.len(), 2);
        assert_eq!(forms[0].repositories, ["b", "a"]);
        assert!(forms[0].reproducible() && !forms[1].reproducible());
        for number in 0..100 {
            add(&mut forms, &seen(number, "a", false));
            add(&mut forms, &seen(1, &number.to_string(), false));
        }
        assert_eq!(forms.len(), FORMS_MAX);
        assert_eq!(forms[0].repositories.len(), REPOSITORIES_MAX);
        assert_eq!(forms[0].repositories[0], "99");
    }
}
