//! One file per noun of the API, one function per operation. Answers that templates or `inspect` show are kept raw
//! ([`crate::Answer`]); the others are decoded at once.

pub mod build;
pub mod containers;
pub mod execs;
pub mod images;
pub mod networks;
pub mod options;
pub mod streams;
pub mod system;
pub mod volumes;

pub use cais_types::api::query::Filters;

/// The `filters` query value; `None` when nothing is filtered.
pub(crate) fn filters_query(filters: &Filters) -> Option<String> {
    (!filters.is_empty()).then(|| filters.to_json())
}
