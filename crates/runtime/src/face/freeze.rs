//! `pause` and `resume`.

use super::arguments::{Arguments, Order};
use super::{Context, Result, said};
use crate::spec::Status;

pub fn pause(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(&[], Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    match container.status() {
        Status::Running | Status::Created => container.cgroup()?.freeze()?,
        _ => return said("container not running"),
    }
    Ok(0)
}

pub fn resume(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(&[], Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    match container.status() {
        Status::Paused => container.cgroup()?.thaw()?,
        _ => return said("container not paused"),
    }
    Ok(0)
}
