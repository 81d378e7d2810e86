//! `--filter` of listing and pruning verbs.

use cais_types::api::query::Filters;

use crate::flags::Parsed;

/// The `--filter` flags of a verb.
pub fn filters(args: &Parsed) -> Filters {
    let mut filters = Filters::default();
    for filter in args.list("filter") {
        if filter.is_empty() {
            continue;
        }
        let (name, value) = filter.split_once('=').unwrap_or((&filter, ""));
        filters.add(name.trim().to_ascii_lowercase(), value.trim());
    }
    filters
}
