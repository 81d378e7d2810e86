//! `image ls --tree`: each image with the platforms it has below it.

use cais_types::human::human_size_with_precision;
use cais_types::oci::Platform;
use serde_json::Value;

use crate::app::App;
use crate::cell::short_id;
use crate::error::Result;
use crate::terminal;

/// Width of the columns behind the names, and their titles.
const COLUMNS: [(usize, &str); 4] = [
    (12, "ID"),
    (10, "DISK USAGE"),
    (12, "CONTENT SIZE"),
    (5, "EXTRA"),
];
const SPACING: &str = "   ";

/// Names get at least so many characters; columns give way.
const NAME_MIN: usize = 12;

const RESET: &str = "\x1b[0m";
const TITLE: &str = "\x1b[39m\x1b[1m";
const NAME: &str = "\x1b[34m\x1b[1m";
const NORMAL: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";

/// An image, or one platform of it.
struct Node {
    id: String,
    disk_usage: String,
    content_size: String,
    in_use: bool,
}

struct Child {
    platform: String,
    available: bool,
    node: Node,
}

struct Image {
    names: Vec<String>,
    node: Node,
    children: Vec<Child>,
}

/// Prints images as the daemon lists them with their manifests; untagged ones only when all are wanted.
pub(super) fn print(app: &App, images: Vec<Value>, all: bool) -> Result {
    let coloured = terminal::is_terminal(&std::io::stdout());
    let width = terminal::size(&std::io::stdout()).map_or(80, |(_, columns)| usize::from(columns));
    app.printer.out(&render(images, all, coloured, width));
    Ok(0)
}

fn render(mut listed: Vec<Value>, all: bool, coloured: bool, width: usize) -> String {
    let width = if width == 0 { 80 } else { width.max(20) };
    listed.sort_by_key(|image| -image["Created"].as_i64().unwrap_or(0));
    let images: Vec<Image> = listed
        .iter()
        .filter(|image| all || !is_dangling(image))
        .map(Image::new)
        .collect();
    let spaced = images.iter().any(|image| !image.children.is_empty());
    let view = View::new(coloured, width, &images);
    let mut text = view.head(width);
    for image in &images {
        view.image(&mut text, image);
        if spaced {
            text.push('\n');
        }
    }
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Whether nothing names an image; old daemons say so by `<none>`.
fn is_dangling(image: &Value) -> bool {
    let nothing = |key: &str, none: &str| match list(image, key) {
        [] => true,
        [name] => name == none,
        _ => false,
    };
    nothing("RepoTags", "<none>:<none>") && nothing("RepoDigests", "<none>@<none>")
}

fn size(value: &Value) -> String {
    human_size_with_precision(value.as_f64().unwrap_or(0.0), 3)
}

impl Image {
    fn new(image: &Value) -> Self {
        let manifests = list(image, "Manifests");
        let children: Vec<Child> = manifests
            .iter()
            .filter(|manifest| manifest["Kind"] == "image")
            .map(Child::new)
            .collect();
        let content: i64 = manifests
            .iter()
            .filter_map(|manifest| manifest["Size"]["Content"].as_i64())
            .sum();
        let names = list(image, "RepoTags").iter();
        Self {
            names: names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            node: Node {
                id: short_id(image["Id"].as_str().unwrap_or_default()),
                disk_usage: size(&image["Size"]),
                content_size: size(&content.into()),
                in_use: children.iter().any(|child| child.node.in_use),
            },
            children,
        }
    }
}

impl Child {
    fn new(manifest: &Value) -> Self {
        let data = &manifest["ImageData"];
        Self {
            platform: serde_json::from_value(data["Platform"].clone())
                .map_or_else(|_| String::new(), |platform: Platform| platform.to_string()),
            available: manifest["Available"] == true,
            node: Node {
                id: short_id(manifest["ID"].as_str().unwrap_or_default()),
                disk_usage: size(&manifest["Size"]["Total"]),
                content_size: size(&manifest["Size"]["Content"]),
                in_use: !list(data, "Containers").is_empty(),
            },
        }
    }
}

/// How wide everything is and whether it has colours.
struct View {
    coloured: bool,
    name_width: usize,
    /// So many columns stand behind the names.
    columns: usize,
}

impl View {
    fn new(coloured: bool, width: usize, images: &[Image]) -> Self {
        let mut room = width;
        let mut columns = 0;
        for (column, _) in COLUMNS {
            let needed = column + SPACING.len();
            if room < needed + NAME_MIN {
                break;
            }
            room -= needed;
            columns += 1;
        }
        let names = images.iter().flat_map(|image| {
            let children = image
                .children
                .iter()
                .map(|child| child.platform.len() + "└─ ".len());
            image.names.iter().map(String::len).chain(children)
        });
        let widest = names.max().unwrap_or(0).max("IMAGE".len());
        Self {
            coloured,
            name_width: room.min(widest),
            columns,
        }
    }

    /// What stands above the images.
    fn head(&self, width: usize) -> String {
        const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
        let (legend, legend_width) = if self.coloured {
            (
                "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m \x1b[38;5;0m\x1b[48;5;14m U \x1b[0m In Use ",
                21,
            )
        } else {
            (" Info ->  U In Use ", 19)
        };
        let mut text = format!(
            "{}\n{}{legend}\n\n",
            self.colour("\x1b[93m", WARNING),
            " ".repeat(width.saturating_sub(legend_width))
        );
        // Docker's titles have their colour everywhere.
        text.push_str(&left(TITLE, true, "IMAGE", self.name_width));
        for (column, title) in &COLUMNS[..self.columns] {
            text.push_str(SPACING);
            text.push_str(&left(TITLE, true, title, *column));
        }
        text.push('\n');
        text
    }

    fn image(&self, text: &mut String, image: &Image) {
        if image.names.is_empty() {
            text.push_str(&self.name(FAINT, "<untagged>"));
        }
        for (number, name) in image.names.iter().enumerate() {
            let last = number + 1 == image.names.len();
            let shown = self.name(NAME, name);
            text.push_str(if last { &shown } else { shown.trim_end() });
            if !last {
                text.push('\n');
            }
        }
        self.node(text, &image.node, NORMAL);
        for (number, child) in image.children.iter().enumerate() {
            let branch = if number + 1 == image.children.len() {
                "└─ "
            } else {
                "├─ "
            };
            let colour = if child.available { NORMAL } else { FAINT };
            text.push_str(&self.name(colour, &format!("{branch}{}", child.platform)));
            self.node(text, &child.node, colour);
        }
    }

    fn name(&self, colour: &str, name: &str) -> String {
        let shown = crate::cell::ellipsis(name, self.name_width);
        left(colour, self.coloured, &shown, self.name_width)
    }

    fn node(&self, text: &mut String, node: &Node, colour: &str) {
        let cells = [&node.id, &node.disk_usage, &node.content_size];
        for (number, (cell, (width, _))) in cells.into_iter().zip(COLUMNS).enumerate() {
            if number >= self.columns {
                break;
            }
            text.push_str(SPACING);
            if number > 0 {
                text.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
            }
            text.push_str(&left(colour, self.coloured, cell, 0));
        }
        if self.columns == COLUMNS.len() {
            text.push_str(SPACING);
            text.push_str(match (node.in_use, self.coloured) {
                (true, true) => "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m  ",
                (true, false) => "U    ",
                (false, _) => "     ",
            });
        }
        text.push('\n');
    }

    fn colour(&self, colour: &str, text: &str) -> String {
        left(colour, self.coloured, text, 0)
    }
}

/// A text in a colour, blanks behind it up to a width.
fn left(colour: &str, coloured: bool, text: &str, width: usize) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
    if coloured {
        format!("{colour}{text}{RESET}{blanks}")
    } else {
        format!("{text}{blanks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<Value> {
        let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let child = |digit: &str,
                     platform: Value,
                     available: bool,
                     total: i64,
                     content: i64,
                     users: Value| {
            serde_json::json!({"ID": id(digit), "Kind": "image", "Available": available,
                "Size": {"Total": total, "Content": content}, "ImageData": {"Platform": platform, "Containers": users}})
        };
        vec![
            serde_json::json!({"Id": id("9"), "RepoTags": ["alpine:latest", "alpine:3"], "Created": 1_700_000_000, "Size": 1_234_567,
            "Manifests": [
                child("1", serde_json::json!({"architecture": "amd64", "os": "linux"}), true, 3_456_789, 1_234_567, serde_json::json!(["x"])),
                child("2", serde_json::json!({"architecture": "arm", "os": "linux", "variant": "v7"}), false, 0, 0, Value::Null),
            ]}),
            serde_json::json!({"Id": id("8"), "RepoTags": [], "Created": 1_600_000_000, "Size": 999}),
            serde_json::json!({"Id": id("7"), "RepoTags": ["registry.example.com:5000/a/rather/long/name/of/an/image:with-a-tag"],
                "Created": 1_800_000_000, "Size": 99_999_999}),
        ]
    }

    /// Recorded from docker 28.2.2.
    #[test]
    fn the_tree_docker_printed() {
        let text = render(images(), false, false, 80);
        let head = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n\
                    \x20                                                             Info ->  U In Use \n\n";
        let body = text.strip_prefix(head).unwrap().replace('\x1b', "^");
        assert_eq!(
            body,
            "^[39m^[1mIMAGE^[0m                           ^[39m^[1mID^[0m             ^[39m^[1mDISK USAGE^[0m   ^[39m^[1mCONTENT SIZE^[0m   ^[39m^[1mEXTRA^[0m\n\
             registry.example.com:5000/a/…   777777777777        100MB             0B        \n\n\
             alpine:latest\n\
             alpine:3                        999999999999       1.23MB         1.23MB   U    \n\
             ├─ linux/amd64                  111111111111       3.46MB         1.23MB   U    \n\
             └─ linux/arm/v7                 222222222222           0B             0B        \n\n"
        );
    }

    #[test]
    fn narrow_terminals_lose_columns() {
        let text = render(images(), false, true, 40).replace('\x1b', "^");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "                   ^[1m^[106m^[30mi^[0m^[0m ^[96mInfo → ^[0m^[0m ^[38;5;0m^[48;5;14m U ^[0m In Use "
        );
        assert_eq!(
            lines[4],
            "^[34m^[1mregistry.ex…^[0m   ^[39m777777777777^[0m        ^[39m100MB^[0m"
        );
        assert_eq!(
            lines[9],
            "^[39m^[2m└─ linux/ar…^[0m   ^[39m^[2m222222222222^[0m           ^[39m^[2m0B^[0m"
        );
        let narrow = render(images(), true, true, 15);
        assert!(narrow.contains("<untagged>"), "{narrow}");
        assert!(!narrow.contains("ID"), "{narrow}");
    }
}
