//! `system df`: show how much disk everything takes.

use cais_types::api::DiskUsage;

use super::df_verbose;
use crate::app::App;
use crate::cell::{size4, text};
use crate::command::{Arguments, Command, Invocation};
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};

/// The verb.
pub const COMMAND: Command = Command {
    name: "df",
    other_names: &[],
    top: None,
    about: "Show how much disk everything takes",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("verbose", "Show each thing").short('v'),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("Type", "TYPE"),
        Column::new("TotalCount", "TOTAL"),
        Column::new("Active", "ACTIVE"),
        Column::new("Size", "SIZE"),
        Column::new("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    go_type: "*formatter.diskUsageImagesContext",
};

const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";

async fn run(app: &App, call: Invocation) -> Result {
    let usage = app.client()?.disk_usage().await?.decode()?;
    let format = call.args.string("format");
    if call.args.switch("verbose") {
        return df_verbose::print(app, &format, &usage);
    }
    let template = match format.as_str() {
        "raw" => RAW.into(),
        format => LISTING.template(format, false),
    };
    LISTING.print(app.printer, &template, rows(&usage))?;
    Ok(0)
}

/// What one kind of things takes.
struct Kind {
    name: &'static str,
    count: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    with_share: bool,
}

fn rows(usage: &DiskUsage) -> Vec<Row> {
    [
        images(usage),
        containers(usage),
        volumes(usage),
        build_cache(usage),
    ]
    .into_iter()
    .map(|kind| {
        let mut reclaimable = size4(kind.reclaimable);
        if kind.with_share && kind.size > 0 {
            reclaimable = format!("{reclaimable} ({}%)", kind.reclaimable * 100 / kind.size);
        }
        Row::from([
            ("Type", text(kind.name)),
            ("TotalCount", text(kind.count.to_string())),
            ("Active", text(kind.active.to_string())),
            ("Size", text(size4(kind.size))),
            ("Reclaimable", text(reclaimable)),
        ])
    })
    .collect()
}

fn images(usage: &DiskUsage) -> Kind {
    let images = usage.images.as_deref().unwrap_or_default();
    let used: i64 = images
        .iter()
        .filter(|image| image.containers != 0 && image.size != -1 && image.shared_size != -1)
        .map(|image| image.size - image.shared_size)
        .sum();
    Kind {
        name: "Images",
        count: images.len(),
        active: images.iter().filter(|image| image.containers > 0).count(),
        size: usage.layers_size,
        reclaimable: usage.layers_size - used,
        with_share: true,
    }
}

fn containers(usage: &DiskUsage) -> Kind {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let (active, idle): (Vec<_>, Vec<_>) = containers.iter().partition(|container| {
        ["running", "paused", "restarting"]
            .iter()
            .any(|state| container.state.contains(state))
    });
    Kind {
        name: "Containers",
        count: containers.len(),
        active: active.len(),
        size: containers.iter().map(|container| container.size_rw).sum(),
        reclaimable: idle.iter().map(|container| container.size_rw).sum(),
        with_share: true,
    }
}

fn volumes(usage: &DiskUsage) -> Kind {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let mut kind = Kind {
        name: "Local Volumes",
        count: volumes.len(),
        active: 0,
        size: 0,
        reclaimable: 0,
        with_share: true,
    };
    for usage in volumes
        .iter()
        .filter_map(|volume| volume.usage_data.as_ref())
    {
        let size = usage.size.max(0);
        kind.size += size;
        if usage.ref_count > 0 {
            kind.active += 1;
        } else {
            kind.reclaimable += size;
        }
    }
    kind
}

fn build_cache(usage: &DiskUsage) -> Kind {
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let size = records
        .iter()
        .filter(|record| !record.shared)
        .map(|record| record.size)
        .sum();
    let used: i64 = records
        .iter()
        .filter(|record| record.in_use && !record.shared)
        .map(|record| record.size)
        .sum();
    Kind {
        name: "Build Cache",
        count: records.len(),
        active: records.iter().filter(|record| record.in_use).count(),
        size,
        reclaimable: size - used,
        with_share: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_docker_printed() {
        let usage: DiskUsage = serde_json::from_str(
            r#"{"LayersSize":1991386,"Images":[{"Containers":2,"Size":1982498,"SharedSize":0},{"Containers":0,"Size":8888,
            "SharedSize":0}],"Containers":[{"State":"running"},{"State":"created"}],"Volumes":[{"UsageData":{"RefCount":1,
            "Size":0}},{"UsageData":{"RefCount":0,"Size":0}}],"BuildCache":null}"#,
        )
        .unwrap();
        assert_eq!(
            LISTING
                .render(&LISTING.template("", false), rows(&usage))
                .unwrap(),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          2         1         1.991MB   8.888kB (0%)\n\
             Containers      2         1         0B        0B\n\
             Local Volumes   2         1         0B        0B\n\
             Build Cache     0         0         0B        0B\n"
        );
    }
}
