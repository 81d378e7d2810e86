//! `list`: all containers of a state directory.

use super::arguments::{Arguments, Flag, Order};
use super::state::{Shown, shown};
use super::{Context, Result, print, print_json, said};

const FLAGS: &[Flag] = &[Flag(&["format", "f"], true), Flag(&["quiet", "q"], false)];

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(FLAGS, Order::Any, words)?;
    let containers: Vec<Shown> = context.store.all()?.into_iter().map(shown).collect();
    if arguments.is_set("quiet") {
        let ids: String = containers
            .iter()
            .map(|one| format!("{}\n", one.id))
            .collect();
        return print(ids).map(|()| 0);
    }
    match arguments.value("format").unwrap_or("table") {
        "table" => print(table(&containers))?,
        // As Go writes an empty list.
        "json" if containers.is_empty() => print("null\n")?,
        "json" => print_json(&containers, false)?,
        _ => return said("invalid format option"),
    }
    Ok(0)
}

fn table(containers: &[Shown]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|one| {
        [
            one.id.clone(),
            one.pid.to_string(),
            format!("{:?}", one.status).to_lowercase(),
            one.bundle.display().to_string(),
            one.created.clone(),
            one.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [12; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len() + 1);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let width = if index == 5 { 0 } else { width };
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text
}
