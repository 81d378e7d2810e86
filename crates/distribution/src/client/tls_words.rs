//! Failures of TLS in the words of Go's library, which users of Docker know and look for.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::ServerName;

/// Why there is no connection to `host[:port]`.
pub fn reason(error: &Error, host: &str) -> String {
    match error {
        Error::InvalidCertificate(certificate) => {
            let why = certificate_reason(certificate, host);
            format!("tls: failed to verify certificate: x509: {why}")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    }
}

fn certificate_reason(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => other_names(expected, presented),
        CertificateError::NotValidForName => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            format!("certificate is not valid for any names, but wanted to match {name}")
        }
        other => other.to_string(),
    }
}

/// A certificate for others; `presented` are its names as webpki writes them, `DnsName("host")` and `IpAddress(1.2.3.4)`.
fn other_names(expected: &ServerName<'_>, presented: &[String]) -> String {
    let kind = match expected {
        ServerName::IpAddress(_) => "IpAddress",
        _ => "DnsName",
    };
    let name = |text: &String| {
        let inside = text
            .strip_prefix(kind)?
            .strip_prefix('(')?
            .strip_suffix(')')?;
        Some(inside.trim_matches('"').to_owned())
    };
    let names: Vec<String> = presented.iter().filter_map(name).collect();
    let wanted = expected.to_str();
    match (names.is_empty(), expected) {
        (false, _) => format!(
            "certificate is valid for {}, not {wanted}",
            names.join(", ")
        ),
        (true, ServerName::IpAddress(_)) => format!(
            "cannot validate certificate for {wanted} because it doesn't contain any IP SANs"
        ),
        (true, _) => {
            format!("certificate is not valid for any names, but wanted to match {wanted}")
        }
    }
}

/// What the other end has against us.
fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::InternalError => "internal error",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_told() {
        let said = |wanted: &str, presented: &[&str]| {
            let error = CertificateError::NotValidForNameContext {
                expected: ServerName::try_from(wanted.to_owned()).unwrap(),
                presented: presented.iter().map(|&text| text.to_owned()).collect(),
            };
            certificate_reason(&error, "unused")
        };
        let both = [
            "DnsName(\"a.lan\")",
            "IpAddress(10.0.0.1)",
            "DnsName(\"*.b.lan\")",
        ];
        assert_eq!(
            said("c.lan", &both),
            "certificate is valid for a.lan, *.b.lan, not c.lan"
        );
        assert_eq!(
            said("10.0.0.2", &both),
            "certificate is valid for 10.0.0.1, not 10.0.0.2"
        );
        assert_eq!(
            said("10.0.0.2", &both[..1]),
            "cannot validate certificate for 10.0.0.2 because it doesn't contain any IP SANs"
        );
        assert_eq!(
            said("c.lan", &both[1..2]),
            "certificate is not valid for any names, but wanted to match c.lan"
        );
    }
}
