//! `system df --verbose`: one table per kind of things.

use std::sync::Arc;

use cais_types::api::{BuildCache, ContainerSummary, DiskUsage};
use gotmpl::Value;
use jiff::Timestamp;

use crate::app::App;
use crate::cell::{ago, ellipsis, size4, text};
use crate::commands::container::ls as containers;
use crate::commands::image::ls as images;
use crate::commands::volume::ls as volumes;
use crate::error::{CliError, Result};
use crate::format::{Column, Listing, Purpose, Row, Template};

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";

const BUILD_CACHE: Listing = Listing {
    columns: &[
        Column::new("ID", "CACHE ID"),
        Column::new("CacheType", "CACHE TYPE"),
        Column::new("Size", "SIZE"),
        Column::new("CreatedSince", "CREATED"),
        Column::new("LastUsedSince", "LAST USED"),
        Column::new("UsageCount", "USAGE"),
        Column::new("Shared", "SHARED"),
    ],
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    quiet: "{{.ID}}",
    go_type: "*formatter.buildCacheContext",
};

/// Prints the tables, or one template over everything.
pub(super) fn print(app: &App, format: &str, usage: &DiskUsage) -> Result {
    let now = Timestamp::now();
    let table = matches!(format, "" | "table");
    let rows = Rows::new(usage, now, table);
    let printed = if table {
        rows.tables(usage)
    } else {
        rows.template(if format == "json" {
            "{{json .}}"
        } else {
            format
        })
    };
    app.printer.out(&printed.map_err(CliError::new)?);
    Ok(0)
}

struct Rows {
    images: Vec<Row>,
    containers: Vec<Row>,
    volumes: Vec<Row>,
    build_cache: Vec<Row>,
}

impl Rows {
    fn new(usage: &DiskUsage, now: Timestamp, shorten: bool) -> Self {
        let shown = images::Shown {
            shorten,
            digests: false,
            dates: !shorten,
            now,
        };
        let image_rows = usage.images.iter().flatten().flat_map(|image| {
            let mut rows = shown.rows(image);
            for row in &mut rows {
                row.insert("Digest", text(""));
            }
            rows
        });
        let view = containers::View {
            now,
            shorten,
            size: true,
            dates: !shorten,
        };
        let container_rows = usage.containers.iter().flatten().map(|container| {
            // Only what a container adds to its image counts here.
            let own = ContainerSummary {
                size_root_fs: 0,
                ..container.clone()
            };
            containers::row(&own, view)
        });
        Self {
            images: image_rows.collect(),
            containers: container_rows.collect(),
            volumes: usage.volumes.iter().flatten().map(volumes::row).collect(),
            build_cache: usage
                .build_cache
                .iter()
                .flatten()
                .map(|record| build_cache(record, now, shorten))
                .collect(),
        }
    }

    fn tables(self, usage: &DiskUsage) -> std::result::Result<String, String> {
        let cache_size: i64 = usage
            .build_cache
            .iter()
            .flatten()
            .filter(|record| !record.shared)
            .map(|record| record.size)
            .sum();
        Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
             Build cache usage: {}\n\n{}",
            images::LISTING.render(IMAGES, self.images)?,
            containers::LISTING.render(CONTAINERS, self.containers)?,
            volumes::LISTING.render(VOLUMES, self.volumes)?,
            size4(cache_size),
            BUILD_CACHE.render(&BUILD_CACHE.template("", false), self.build_cache)?,
        ))
    }

    fn template(self, source: &str) -> std::result::Result<String, String> {
        let list = |rows: Vec<Row>| {
            let maps = rows.into_iter().map(|row| {
                let fields = row
                    .into_iter()
                    .map(|(name, value)| (Arc::from(name), value));
                Value::Map(Arc::new(fields.collect()))
            });
            Value::List(maps.collect())
        };
        let data = [
            ("Images", list(self.images)),
            ("Containers", list(self.containers)),
            ("Volumes", list(self.volumes)),
            ("BuildCache", list(self.build_cache)),
        ];
        if source == "{{json .}}" {
            // Docker shows the kinds in this order, not by name.
            let mut text = String::new();
            for (name, value) in data {
                let json = Template::parse(source, Purpose::Values, Default::default(), true)?
                    .run(&value, |_| String::new())?;
                text.push(if text.is_empty() { '{' } else { ',' });
                text.push_str(&format!("\"{name}\":{json}"));
            }
            return Ok(text + "}");
        }
        let fields = data
            .into_iter()
            .map(|(name, value)| (Arc::from(name), value));
        Template::parse(source, Purpose::Values, Default::default(), true)?
            .run(&Value::Map(Arc::new(fields.collect())), |key| {
                format!("can't evaluate field {key} in type *formatter.diskUsageContext")
            })
    }
}

fn build_cache(record: &BuildCache, now: Timestamp, shorten: bool) -> Row {
    let since = |time: Option<&str>| {
        time.and_then(|time| time.parse::<Timestamp>().ok())
            .map_or_else(String::new, |time| ago(time.as_second(), now))
    };
    let id = if shorten {
        ellipsis(&record.id, 12)
    } else {
        record.id.clone()
    };
    let truth = |value: bool| text(if value { "true" } else { "false" });
    Row::from([
        ("ID", text(id)),
        ("Parent", text(record.parents.join(", "))),
        ("CacheType", text(record.r#type.as_str())),
        ("Description", text(record.description.as_str())),
        ("InUse", truth(record.in_use)),
        ("Shared", truth(record.shared)),
        ("Size", text(size4(record.size))),
        ("CreatedAt", text(record.created_at.as_str())),
        ("CreatedSince", text(since(Some(&record.created_at)))),
        (
            "LastUsedAt",
            text(record.last_used_at.clone().unwrap_or_default()),
        ),
        ("LastUsedSince", text(since(record.last_used_at.as_deref()))),
        ("UsageCount", text(record.usage_count.to_string())),
    ])
}
