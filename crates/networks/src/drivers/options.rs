//! Reads driver options, with Docker's texts for wrong ones.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::NetworkError;
use crate::store::GatewayMode;

/// The options of a network.
#[derive(Clone, Copy)]
pub struct Options<'a>(pub &'a BTreeMap<String, String>);

/// `failed to parse LABEL value: VALUE (WHY)`.
fn failed(label: &str, value: &str, why: &str) -> NetworkError {
    NetworkError::Invalid(format!("failed to parse {label} value: {value} ({why})"))
}

impl<'a> Options<'a> {
    /// The text of an option; an empty one counts as not given.
    pub fn text(self, label: &str) -> Option<&'a str> {
        let value = self.0.get(label).map(String::as_str);
        value.filter(|text| !text.is_empty())
    }

    /// A truth as Go reads it.
    pub fn flag(self, label: &str, default: bool) -> Result<bool, NetworkError> {
        match self.text(label) {
            None => Ok(default),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(text) => {
                let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
                Err(failed(label, text, &why))
            }
        }
    }

    /// A packet size in bytes.
    pub fn mtu(self, default: u32) -> Result<u32, NetworkError> {
        let label = "com.docker.network.driver.mtu";
        let Some(text) = self.text(label) else {
            return Ok(default);
        };
        let number: i64 = text.parse().map_err(|_| {
            let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            failed(label, text, &why)
        })?;
        match u32::try_from(number) {
            Ok(0) => Ok(default),
            Ok(number) if number <= 65_535 => Ok(number),
            _ => {
                let text = format!("invalid MTU number: {number}");
                Err(NetworkError::Invalid(text))
            }
        }
    }

    /// The gateway mode of one address family.
    pub fn gateway_mode(self, ipv6: bool, internal: bool) -> Result<GatewayMode, NetworkError> {
        let family = if ipv6 { "ipv6" } else { "ipv4" };
        let label = format!("com.docker.network.bridge.gateway_mode_{family}");
        let mode = match self.text(&label) {
            None | Some("nat") => GatewayMode::Nat,
            Some("nat-unprotected") => GatewayMode::NatUnprotected,
            Some("routed") => GatewayMode::Routed,
            Some("isolated") => GatewayMode::Isolated,
            Some(text) => {
                let why = format!("unknown gateway mode {text}");
                return Err(failed(&label, text, &why));
            }
        };
        if mode == GatewayMode::Isolated && !internal {
            let why = "gateway mode 'isolated' can only be used for an internal network";
            return Err(NetworkError::Invalid(why.to_owned()));
        }
        Ok(mode)
    }

    /// An address of the host.
    pub fn address<T: FromStr>(self, label: &str) -> Result<Option<T>, NetworkError> {
        let Some(text) = self.text(label) else {
            return Ok(None);
        };
        let address = text.parse();
        address.map(Some).map_err(|_| failed(label, text, "nil ip"))
    }
}
