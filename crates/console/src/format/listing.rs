//! Listings: one template run per row, as a table with headers or line by line.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::label;
use super::template::{Purpose, Template};
use crate::error::{CliError, Result};
use crate::printer::Printer;
use crate::table::align;

/// A field of a row.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in templates: `ID`.
    pub name: &'static str,
    /// Its header: `CONTAINER ID`.
    pub header: &'static str,
    /// Whether `{{json .}}` shows it.
    pub in_json: bool,
}

impl Column {
    /// A field that `{{json .}}` shows.
    pub const fn new(name: &'static str, header: &'static str) -> Self {
        Self {
            name,
            header,
            in_json: true,
        }
    }
}

/// Values of one row, by column name.
pub type Row = BTreeMap<&'static str, Value>;

/// How a verb lists things.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Every field a template may name.
    pub columns: &'static [Column],
    /// The template behind `table`.
    pub table: &'static str,
    /// The template of `--quiet`.
    pub quiet: &'static str,
    /// Go's name of the row type in errors: `*formatter.ContainerContext`.
    pub go_type: &'static str,
}

impl Listing {
    /// The template for a format the user gave; empty means the table.
    pub fn template<'a>(&self, format: &'a str, quiet: bool) -> std::borrow::Cow<'a, str> {
        match format {
            "" | "table" if quiet => self.quiet.into(),
            "" | "table" => format!("table {}", self.table).into(),
            "json" => "{{json .}}".into(),
            other => other.replace("\\t", "\t").replace("\\n", "\n").into(),
        }
    }

    /// Whether a format the user gave names a field, so that rows know what they have to compute.
    pub fn uses(&self, format: &str, field: &str) -> bool {
        format.contains(&format!(".{field}")) || format.contains("json .}")
    }

    /// Prints rows by a template of [`Listing::template`].
    ///
    /// # Errors
    /// A template that does not parse, or names what is not there; exit code 1, or 64 for a template that cannot be
    /// parsed, both with Docker's text.
    pub fn print(&self, printer: Printer, template: &str, rows: Vec<Row>) -> Result<()> {
        printer.out(&self.render(template, rows).map_err(CliError::new)?);
        Ok(())
    }

    /// [`Listing::print`] as text.
    ///
    /// # Errors
    /// Docker's text for a bad template.
    pub fn render(&self, template: &str, rows: Vec<Row>) -> std::result::Result<String, String> {
        let (table, source) = match template.strip_prefix("table") {
            Some(rest) => (true, rest.trim()),
            None => (false, template),
        };
        let source = &label::callable(source);
        let parse = |purpose| Template::parse(source, purpose, Default::default(), true);
        let failed = |error| format!("template parsing error: {error}");
        let values = parse(Purpose::Values).map_err(failed)?;
        let unknown = |key: &str| format!("can't evaluate field {key} in type {}", self.go_type);
        let mut text = String::new();
        if table {
            let headers = self
                .columns
                .iter()
                .map(|column| (column.name, Value::String(column.header.into())))
                .chain([("Label", label::header())]);
            let line = parse(Purpose::Headers)?.run(&self.value(headers.collect()), unknown);
            text.push_str(&line.map_err(failed)?);
            text.push('\n');
        }
        for row in rows {
            text.push_str(&values.run(&self.value(row), unknown).map_err(failed)?);
            text.push('\n');
        }
        Ok(if table { align(&text) } else { text })
    }

    /// Tries a template before there are rows, as `ps` does.
    ///
    /// # Errors
    /// Docker's text for a bad template.
    pub fn check(&self, template: &str) -> std::result::Result<(), String> {
        let source = label::callable(template.strip_prefix("table").unwrap_or(template));
        let template = Template::parse(&source, Purpose::Headers, Default::default(), true)
            .map_err(|error| format!("failed to parse template: {error}"))?;
        let fields = self
            .columns
            .iter()
            .map(|column| (column.name, Value::String("".into())))
            .chain([("Label", label::header())]);
        let unknown = |key: &str| format!("can't evaluate field {key} in type {}", self.go_type);
        match template.run(&self.value(fields.collect()), unknown) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("failed to execute template: {error}")),
        }
    }

    fn value(&self, row: Row) -> Value {
        let map: BTreeMap<Arc<str>, Value> = row
            .into_iter()
            .map(|(name, value)| (Arc::from(name), value))
            .collect();
        Value::Map(Arc::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINGS: Listing = Listing {
        columns: &[Column::new("ID", "THING ID"), Column::new("Ports", "PORTS")],
        table: "{{.ID}}\t{{.Ports}}",
        quiet: "{{.ID}}",
        go_type: "*formatter.ThingContext",
    };

    fn rows() -> Vec<Row> {
        vec![Row::from([
            ("ID", Value::from("a".to_owned())),
            ("Ports", Value::from("80->80/tcp".to_owned())),
        ])]
    }

    fn render(format: &str) -> std::result::Result<String, String> {
        THINGS.render(&THINGS.template(format, false), rows())
    }

    #[test]
    fn formats() {
        assert_eq!(
            render("").unwrap(),
            "THING ID   PORTS\na          80->80/tcp\n"
        );
        assert_eq!(render("table {{.Ports}}").unwrap(), "PORTS\n80->80/tcp\n");
        assert_eq!(
            render("table {{upper .ID}}\\t{{.ID}}").unwrap(),
            "THING ID   THING ID\nA          a\n"
        );
        assert_eq!(render("{{.ID}}:{{truncate .Ports 2}}").unwrap(), "a:80\n");
        assert_eq!(
            render("json").unwrap(),
            "{\"ID\":\"a\",\"Ports\":\"80-\\u003e80/tcp\"}\n"
        );
        assert_eq!(THINGS.template("", true), "{{.ID}}");
    }

    #[test]
    fn errors_are_dockers() {
        assert_eq!(
            render("{{.Foo}}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type \
             *formatter.ThingContext"
        );
        assert_eq!(
            render("{{nofunc .ID}}").unwrap_err(),
            "template parsing error: template: :1: function \"nofunc\" not defined"
        );
        let error = render("{{.ID").unwrap_err();
        assert!(
            error.starts_with("template parsing error: template: :1: unclosed action"),
            "{error}"
        );
        assert_eq!(
            THINGS.check("{{.Foo}}").unwrap_err(),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type \
             *formatter.ThingContext"
        );
        assert_eq!(THINGS.check("table {{.ID}} {{.Label \"x\"}}"), Ok(()));
    }
}
