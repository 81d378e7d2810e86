//! `builder du`: show what the build cache holds, as buildx shows it.

use cais_types::api::BuildCache;
use cais_types::api::query::Filters;
use jiff::{SignedDuration, Timestamp};

use crate::app::App;
use crate::cell::{ago, go_time, size4, text};
use crate::command::{Arguments, Command, Invocation};
use crate::commands::filtering::filters;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};

/// The verb.
pub const COMMAND: Command = Command {
    name: "du",
    other_names: &[],
    top: None,
    about: "Show what the build cache holds",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "filter",
        "filter",
        "Show only what matches (type=regular, inuse=false, until=24h)",
    ),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'pretty', 'json', or by a Go template",
    ),
    switch("verbose", "The same as --format=pretty"),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("ID", "ID"),
        Column::new("Parents", "PARENTS"),
        Column::new("CreatedAt", "CREATED AT"),
        Column::new("Mutable", "MUTABLE"),
        Column::new("Reclaimable", "RECLAIMABLE"),
        Column::new("Shared", "SHARED"),
        Column::new("Size", "SIZE"),
        Column::new("Description", "DESCRIPTION"),
        Column::new("UsageCount", "USAGE COUNT"),
        Column::new("LastUsedAt", "LAST ACCESSED"),
        Column::new("Type", "TYPE"),
    ],
    table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}",
    quiet: "{{.ID}}",
    go_type: "*commands.diskusageContext",
};

/// What a filter may ask for.
const FILTERS: [&str; 11] = [
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "mutable",
    "shared",
    "private",
    "until",
    "unused-for",
    "immutable",
];

async fn run(app: &App, call: Invocation) -> Result {
    let format = call.args.string("format");
    let pretty = call.args.switch("verbose") || format == "pretty";
    if call.args.switch("verbose") && !matches!(format.as_str(), "" | "pretty") {
        return Err(CliError::new(
            "--format and --verbose cannot be used together",
        ));
    }
    let filters = filters(&call.args);
    let now = Timestamp::now();
    let before = checked(&filters, now)?;
    let usage = app.client()?.disk_usage().await?.decode()?;
    let mut records = usage.build_cache.unwrap_or_default();
    records.retain(|record| wanted(record, &filters, before));
    records.sort_by_key(|record| std::cmp::Reverse(record.size));
    if !matches!(format.as_str(), "" | "table" | "pretty") {
        let rows = records.iter().map(|record| row(record, now)).collect();
        LISTING.print(app.printer, &LISTING.template(&format, false), rows)?;
        return Ok(0);
    }
    let mut shown = if pretty {
        records
            .iter()
            .map(|record| paragraph(record, now))
            .collect()
    } else {
        table(&records, now)
    };
    if filters.is_empty() {
        shown += &summary(&records);
    }
    app.printer.out(&shown);
    Ok(0)
}

/// Refuses a filter that there is not; answers until when a record may have been used.
fn checked(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>> {
    let checked = filters.validate(&FILTERS);
    checked.map_err(|error| CliError::new(error.message()))?;
    let ages = [filters.get("until"), filters.get("unused-for")].concat();
    let before = ages.iter().map(|text| {
        let bad = |error: &dyn std::fmt::Display| CliError::new(format!("{text:?}: {error}"));
        let age: SignedDuration = text.parse().map_err(|error: jiff::Error| bad(&error))?;
        now.checked_sub(age).map_err(|error| bad(&error))
    });
    let before: Vec<Timestamp> = before.collect::<Result<_>>()?;
    Ok(before.into_iter().min())
}

fn wanted(record: &BuildCache, filters: &Filters, before: Option<Timestamp>) -> bool {
    let flag = |name: &str, holds: bool| {
        let wanted = filters.get(name).first();
        wanted.is_none_or(|wanted| matches!(wanted.as_str(), "false" | "0") != holds)
    };
    let used: Option<Timestamp> = record.last_used_at.as_ref().and_then(|at| at.parse().ok());
    let descriptions = filters.get("description");
    let parents = filters.get("parent");
    filters.matches_prefix("id", &record.id)
        && filters.matches("type", &record.r#type)
        && (parents.is_empty()
            || record
                .parents
                .iter()
                .any(|id| filters.matches_prefix("parent", id)))
        && (descriptions.is_empty()
            || descriptions
                .iter()
                .any(|text| record.description.contains(text.as_str())))
        && flag("inuse", record.in_use)
        && flag("shared", record.shared)
        && flag("private", !record.shared)
        && flag("mutable", is_mutable(record))
        && flag("immutable", !is_mutable(record))
        && before.is_none_or(|before| used.is_none_or(|used| used <= before))
}

/// Steps never change once they are made.
fn is_mutable(record: &BuildCache) -> bool {
    record.r#type != "regular"
}

fn last_used(record: &BuildCache, now: Timestamp) -> String {
    let used = record
        .last_used_at
        .as_ref()
        .and_then(|at| at.parse::<Timestamp>().ok());
    used.map_or_else(String::new, |used| ago(used.as_second(), now))
}

fn star(holds: bool) -> &'static str {
    if holds { "*" } else { "" }
}

fn table(records: &[BuildCache], now: Timestamp) -> String {
    let mut text = "ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n".to_owned();
    for record in records {
        let id = format!("{}{}", record.id, star(is_mutable(record)));
        let size = format!("{}{}", size4(record.size), star(record.shared));
        let used = last_used(record, now);
        text.push_str(&format!(
            "{id:<40}\t{:<5}\t{size:<10}\t{used}\n",
            !record.in_use
        ));
    }
    text
}

fn paragraph(record: &BuildCache, now: Timestamp) -> String {
    let mut text = format!("ID:\t\t{}\n", record.id);
    if !record.parents.is_empty() {
        text.push_str(&format!("Parent:\t\t{}\n", record.parents.join(", ")));
    }
    for (name, value) in [
        ("Created at:\t", go_time(&record.created_at)),
        ("Mutable:\t", is_mutable(record).to_string()),
        ("Reclaimable:\t", (!record.in_use).to_string()),
        ("Shared:\t\t", record.shared.to_string()),
        ("Size:\t\t", size4(record.size)),
        ("Description:\t", record.description.clone()),
        ("Usage count:\t", record.usage_count.to_string()),
        ("Last used:\t", last_used(record, now)),
        ("Type:\t\t", record.r#type.clone()),
    ] {
        text.push_str(&format!("{name}{value}\n"));
    }
    text + "\n"
}

fn summary(records: &[BuildCache]) -> String {
    let sum = |wanted: &dyn Fn(&BuildCache) -> bool| -> i64 {
        let records = records.iter().filter(|record| wanted(record));
        records.map(|record| record.size).sum()
    };
    let (total, shared) = (sum(&|_| true), sum(&|record| record.shared));
    let mut text = String::new();
    if shared > 0 {
        let private = size4(total - shared);
        text.push_str(&format!(
            "Shared:\t\t{}\nPrivate:\t{private}\n",
            size4(shared)
        ));
    }
    let reclaimable = size4(sum(&|record| !record.in_use));
    text + &format!("Reclaimable:\t{reclaimable}\nTotal:\t\t{}\n", size4(total))
}

/// A record as templates see it.
fn row(record: &BuildCache, now: Timestamp) -> Row {
    let truth = |value: bool| text(value.to_string());
    Row::from([
        ("ID", text(record.id.as_str())),
        ("Parents", text(record.parents.join(", "))),
        ("CreatedAt", text(go_time(&record.created_at))),
        ("Mutable", truth(is_mutable(record))),
        ("Reclaimable", truth(!record.in_use)),
        ("Shared", truth(record.shared)),
        ("Size", text(size4(record.size))),
        ("Description", text(record.description.as_str())),
        ("UsageCount", text(record.usage_count.to_string())),
        ("LastUsedAt", text(last_used(record, now))),
        ("Type", text(record.r#type.as_str())),
    ])
}
