//! `container stats`: show what containers use, once or all the time.

use std::cell::RefCell;
use std::time::Duration;

use cais_client::api::options::ListOptions;
use cais_client::{Client, ClientError};
use cais_types::api::query::Filters;
use cais_types::api::{ContainerStats, EventMessage};
use futures_core::future::LocalBoxFuture;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;

use super::stats_numbers::{Numbers, pair};
use crate::app::App;
use crate::cell::{id, short_id, text};
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};

/// The verb.
pub const COMMAND: Command = Command {
    name: "stats",
    other_names: &[],
    top: Some("stats"),
    about: "Show what containers use, all the time",
    usage: "[OPTIONS] [CONTAINER...]",
    aliases: &["container stats", "stats"],
    arguments: Arguments::Any,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Show all containers, not only running ones").short('a'),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("no-stream", "Show one sample and end"),
    switch("no-trunc", "Do not shorten columns"),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("Container", "CONTAINER"),
        Column::new("Name", "NAME"),
        Column::new("ID", "CONTAINER ID"),
        Column::new("CPUPerc", "CPU %"),
        Column::new("MemUsage", "MEM USAGE / LIMIT"),
        Column::new("MemPerc", "MEM %"),
        Column::new("NetIO", "NET I/O"),
        Column::new("BlockIO", "BLOCK I/O"),
        Column::new("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    go_type: "*container.statsContext",
};

/// How often the table is drawn.
const PERIOD: Duration = Duration::from_millis(500);

/// One container that is watched.
#[derive(Debug)]
struct Watched {
    /// As it is asked for.
    name: String,
    sample: Option<ContainerStats>,
    failure: Option<String>,
}

impl Watched {
    fn new(name: String) -> Self {
        Self {
            name,
            sample: None,
            failure: None,
        }
    }
}

type Table = RefCell<Vec<Watched>>;

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let client = app.client()?;
    let format = match args.value("format") {
        Some(format) => format,
        None => &app.config().stats_format,
    };
    let view = View {
        template: LISTING.template(format, false).into_owned(),
        shorten: !args.switch("no-trunc"),
        live: !args.switch("no-stream"),
    };
    let all = args.switch("all");
    let everything = args.positionals.is_empty();
    let names = if everything {
        listed(client, all).await?
    } else {
        // Many calls begin at once; they have to know the version.
        client.negotiate().await?;
        args.positionals.clone()
    };
    let table: Table = RefCell::new(names.into_iter().map(Watched::new).collect());
    if view.live {
        return Box::pin(live(app, client, &view, &table, everything.then_some(all))).await;
    }
    let count = table.borrow().len();
    let once = (0..count).map(|number| {
        let name = table.borrow()[number].name.clone();
        let table = &table;
        async move {
            let sample = client.container_stats_once(&name, false).await;
            let mut table = table.borrow_mut();
            match sample {
                Ok(sample) => table[number].sample = Some(sample),
                Err(error) => table[number].failure = Some(error.to_string()),
            }
        }
    });
    futures_util::future::join_all(once).await;
    if !everything {
        refuse_unknown(&table)?;
    }
    view.draw(app, &table)?;
    Ok(0)
}

async fn listed(client: &Client, all: bool) -> Result<Vec<String>> {
    let options = ListOptions {
        all,
        ..ListOptions::default()
    };
    let containers = client.container_list(&options).await?.decode()?;
    Ok(containers
        .iter()
        .map(|container| short_id(&container.id))
        .collect())
}

fn refuse_unknown(table: &Table) -> Result<()> {
    let failures: Vec<String> = table
        .borrow()
        .iter()
        .filter_map(|watched| watched.failure.clone())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(CliError::new(failures.join("\n")))
}

/// Draws the table again and again. `follow` says whether new containers are taken in (and whether stopped ones too).
async fn live(
    app: &App,
    client: &Client,
    view: &View,
    table: &Table,
    follow: Option<bool>,
) -> Result {
    let mut watching: FuturesUnordered<LocalBoxFuture<'_, ()>> = table
        .borrow()
        .iter()
        .map(|watched| -> LocalBoxFuture<'_, ()> {
            Box::pin(watch(client, table, watched.name.clone()))
        })
        .collect();
    let mut events = match follow {
        Some(_) => Some(container_events(client).await?),
        None => None,
    };
    let mut ticker = tokio::time::interval(PERIOD);
    let mut first = true;
    loop {
        tokio::select! {
            biased;
            event = async {
                match &mut events {
                    Some(events) => events.next::<EventMessage>().await,
                    None => std::future::pending().await,
                }
            } => match event? {
                Some(event) => {
                    if let Some(name) = apply(&event, table, follow == Some(true)) {
                        watching.push(Box::pin(watch(client, table, name)));
                    }
                }
                None => return Ok(0),
            },
            Some(()) = watching.next(), if !watching.is_empty() => {}
            _ = ticker.tick() => {
                let waiting = table
                    .borrow()
                    .iter()
                    .any(|watched| watched.sample.is_none() && watched.failure.is_none());
                if first && waiting {
                    continue;
                }
                if follow.is_none() {
                    if first {
                        refuse_unknown(table)?;
                    }
                    if watching.is_empty() {
                        return Ok(0);
                    }
                }
                first = false;
                view.draw(app, table)?;
            }
        }
    }
}

async fn container_events(client: &Client) -> Result<cais_client::JsonLines> {
    let mut filters = Filters::default();
    filters.add("type", "container");
    let now = Timestamp::now().as_second().to_string();
    Ok(client.events(Some(&now), None, &filters).await?)
}

/// Takes in a container that appeared, and forgets one that went; the name of a new one.
fn apply(event: &EventMessage, table: &Table, all: bool) -> Option<String> {
    let name = short_id(&event.actor.id);
    let mut table = table.borrow_mut();
    let known = table.iter().any(|watched| watched.name == name);
    match event.action.as_str() {
        "create" if all && !known => {}
        "start" if !known => {}
        "die" if !all => {
            table.retain(|watched| watched.name != name);
            return None;
        }
        "destroy" => {
            table.retain(|watched| watched.name != name);
            return None;
        }
        _ => return None,
    }
    table.push(Watched::new(name.clone()));
    Some(name)
}

/// Keeps the newest sample of a container in the table until it is gone.
async fn watch(client: &Client, table: &Table, name: String) {
    let keep = |change: &mut dyn FnMut(&mut Watched)| {
        if let Some(watched) = table
            .borrow_mut()
            .iter_mut()
            .find(|watched| watched.name == name)
        {
            change(watched);
        }
    };
    let failed = |error: ClientError| {
        keep(&mut |watched| watched.failure = Some(error.to_string()));
    };
    let mut samples = match client.container_stats(&name).await {
        Ok(samples) => samples,
        Err(error) => return failed(error),
    };
    loop {
        match samples.next::<ContainerStats>().await {
            Ok(Some(sample)) => keep(&mut |watched| {
                watched.sample = Some(sample.clone());
                watched.failure = None;
            }),
            Ok(None) => return,
            Err(error) => return failed(error),
        }
    }
}

/// How the table is drawn.
struct View {
    template: String,
    shorten: bool,
    live: bool,
}

impl View {
    fn draw(&self, app: &App, table: &Table) -> Result<()> {
        let rows = table
            .borrow()
            .iter()
            .map(|watched| row(watched, self.shorten))
            .collect();
        let drawn = LISTING
            .render(&self.template, rows)
            .map_err(CliError::new)?;
        if self.live {
            app.printer.out(&redrawn(&drawn));
        } else {
            app.printer.out(&drawn);
        }
        Ok(())
    }
}

/// The table over the one before: from the top left, each line cleared to its end, and what is below as well.
fn redrawn(table: &str) -> String {
    let mut text = "\x1b[H".to_owned();
    for line in table.split('\n') {
        text.push_str(line);
        text.push_str(" \x1b[K\n");
    }
    text + "\x1b[J"
}

fn row(watched: &Watched, shorten: bool) -> Row {
    let Some(sample) = watched
        .sample
        .as_ref()
        .filter(|_| watched.failure.is_none())
    else {
        return Row::from([
            ("Container", text(watched.name.as_str())),
            ("Name", text("--")),
            ("ID", text("--")),
            ("CPUPerc", text("--")),
            ("MemUsage", text("-- / --")),
            ("MemPerc", text("--")),
            ("NetIO", text("--")),
            ("BlockIO", text("--")),
            ("PIDs", text("--")),
        ]);
    };
    let numbers = Numbers::of(sample);
    let name = match sample.name.trim_start_matches('/') {
        "" => "--",
        name => name,
    };
    Row::from([
        ("Container", text(watched.name.as_str())),
        ("Name", text(name)),
        ("ID", id(&sample.id, shorten)),
        ("CPUPerc", text(format!("{:.2}%", numbers.cpu))),
        ("MemUsage", text(numbers.memory_text())),
        ("MemPerc", text(format!("{:.2}%", numbers.memory_share))),
        ("NetIO", text(pair(numbers.network))),
        ("BlockIO", text(pair(numbers.block))),
        ("PIDs", text(numbers.pids.to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_docker_printed_them() {
        let id = "144f4b3befcbf3fc0461ecd15a75776ad94c10ed9278e4fa15a081ef0b4aedc9";
        let sample = ContainerStats {
            name: "/one".into(),
            id: id.into(),
            ..ContainerStats::default()
        };
        let watched = Watched {
            name: "one".into(),
            sample: Some(sample),
            failure: None,
        };
        let rows = vec![row(&watched, true), row(&Watched::new("two".into()), true)];
        assert_eq!(
            LISTING.render(&LISTING.template("", false), rows).unwrap(),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS\n\
             144f4b3befcb   one       0.00%     0B / 0B             0.00%     0B / 0B   0B / 0B     0\n\
             --             --        --        -- / --             --        --        --          --\n"
        );
    }

    #[test]
    fn containers_come_and_go() {
        let table: Table = RefCell::new(Vec::new());
        let event = |action: &str| {
            let mut event = EventMessage {
                action: action.into(),
                ..EventMessage::default()
            };
            event.actor.id = "144f4b3befcbf3fc".into();
            event
        };
        assert_eq!(apply(&event("create"), &table, false), None);
        assert_eq!(
            apply(&event("start"), &table, false),
            Some("144f4b3befcb".into())
        );
        assert_eq!(apply(&event("start"), &table, false), None);
        apply(&event("die"), &table, false);
        assert!(table.borrow().is_empty());
    }

    #[test]
    fn a_table_is_drawn_over_the_one_before() {
        assert_eq!(
            redrawn("A\nb\n"),
            "\x1b[HA \x1b[K\nb \x1b[K\n \x1b[K\n\x1b[J"
        );
    }
}
