//! `state`: where a container is in its life.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::Serialize;

use super::arguments::{Arguments, Order};
use super::store::Container;
use super::{Context, Result, print_json};
use crate::spec::Status;

/// What `state` and `list` print.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub oci_version: String,
    pub id: String,
    /// 0 when it is stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(&[], Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    print_json(&shown(container), true)?;
    Ok(0)
}

/// All that is told of a container.
pub fn shown(container: Container) -> Shown {
    let status = container.status();
    let owner = std::fs::metadata(&container.directory).map_or(0, |metadata| metadata.uid());
    let record = container.record;
    Shown {
        oci_version: record.oci_version,
        id: record.id,
        pid: if status == Status::Stopped {
            0
        } else {
            record.pid
        },
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner: user_name(owner),
    }
}

fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    found.unwrap_or(number)
}
