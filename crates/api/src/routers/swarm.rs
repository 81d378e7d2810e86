//! `/swarm` and what lives in a swarm. This host never is in one, and answers as a Docker host outside of a swarm does.

use cais_types::{Error, ErrorClass, Result};

use super::not_built;
use crate::reply::Reply;
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(POST "/swarm/init" => join),
        route!(POST "/swarm/join" => join),
        route!(POST "/swarm/leave" => leave),
        route!(GET "/swarm" => outside),
        route!(GET "/swarm/unlockkey" => outside),
        route!(POST "/swarm/unlock" => outside),
        route!(POST "/swarm/update" => outside),
        route!(GET "/nodes" => outside),
        route!(GET "/nodes/{id}" => outside),
        route!(DELETE "/nodes/{id}" => outside),
        route!(POST "/nodes/{id}/update" => outside),
        route!(GET "/services" => outside),
        route!(POST "/services/create" => outside),
        route!(GET "/services/{id}/logs" => outside),
        route!(GET "/services/{id}" => outside),
        route!(DELETE "/services/{id}" => outside),
        route!(POST "/services/{id}/update" => outside),
        route!(GET "/tasks" => outside),
        route!(GET "/tasks/{id}/logs" => outside),
        route!(GET "/tasks/{id}" => outside),
        route!(GET "/secrets" => outside),
        route!(POST "/secrets/create" => outside),
        route!(GET "/secrets/{id}" => outside),
        route!(DELETE "/secrets/{id}" => outside),
        route!(POST "/secrets/{id}/update" => outside),
        route!(GET "/configs" => outside),
        route!(POST "/configs/create" => outside),
        route!(GET "/configs/{id}" => outside),
        route!(DELETE "/configs/{id}" => outside),
        route!(POST "/configs/{id}/update" => outside),
    ]
}

async fn join(_: Call) -> Result<Reply> {
    Err(not_built("swarm mode"))
}

async fn leave(_: Call) -> Result<Reply> {
    let message = "This node is not part of a swarm";
    Err(Error::new(ErrorClass::Unavailable, message))
}

async fn outside(_: Call) -> Result<Reply> {
    let message = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                   this node to swarm and try again.";
    Err(Error::new(ErrorClass::Unavailable, message))
}
