//! `--filter` of listing and pruning verbs.

use cais_types::api::query::Filters;

use crate::app::App;
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

/// The `--filter` flags of a pruning verb, and those that the user's configuration adds to each. A label that one asks
/// for and the other excludes is left to the flag.
pub fn prune_filters(app: &App, args: &Parsed) -> Filters {
    with_configured(filters(args), &app.config().prune_filters)
}

fn with_configured(mut filters: Filters, configured: &[String]) -> Filters {
    for filter in configured {
        let Some((name, value)) = filter
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
        else {
            continue;
        };
        let opposite = match name {
            "label" => "label!",
            "label!" => "label",
            _ => "",
        };
        if !filters.get(opposite).iter().any(|other| other == value) {
            filters.add(name, value);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_filters_do_not_contradict_flags() {
        let mut filters = Filters::default();
        filters.add("label!", "keep");
        let configured = ["label=keep", "label!=x", "until=24h", "nonsense", "empty="];
        let configured: Vec<String> = configured.map(str::to_owned).into();
        assert_eq!(
            with_configured(filters, &configured).to_json(),
            r#"{"label!":{"keep":true,"x":true},"until":{"24h":true}}"#
        );
    }
}
