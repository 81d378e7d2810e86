//! `/plugins`: there never is one.

use cais_types::{Error, Result};

use super::not_built;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/plugins" => list),
        route!(GET "/plugins/privileges" => install),
        route!(POST "/plugins/pull" => install),
        route!(POST "/plugins/create" => install),
        route!(GET "/plugins/{name}/json" => missing),
        route!(POST "/plugins/{name}/enable" => missing),
        route!(POST "/plugins/{name}/disable" => missing),
        route!(POST "/plugins/{name}/upgrade" => missing),
        route!(POST "/plugins/{name}/push" => missing),
        route!(POST "/plugins/{name}/set" => missing),
        route!(DELETE "/plugins/{name}" => missing),
    ]
}

async fn list(_: Call) -> Result<Reply> {
    reply::json::<[(); 0]>(&[])
}

async fn install(_: Call) -> Result<Reply> {
    Err(not_built("installing plugins"))
}

async fn missing(call: Call) -> Result<Reply> {
    Err(Error::not_found(format!(
        "plugin {:?} not found",
        call.name()
    )))
}
