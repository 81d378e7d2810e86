//! `--platform`: `os[/arch[/variant]]`, as the API takes it.

use cais_types::oci::Platform;

/// Reads a platform. A variant that was typed stays, also where it is the usual one; one that was not stays away.
///
/// # Errors
/// Docker's text for a text that names no platform.
pub fn parse(text: &str) -> Result<Platform, String> {
    let mut platform: Platform = text
        .parse()
        .map_err(|error: cais_types::oci::PlatformError| error.to_string())?;
    let typed = text.split('/').count() > 2;
    let usual = match platform.architecture.as_str() {
        "arm64" => "v8",
        "arm" => "v7",
        _ => return Ok(platform),
    };
    match platform.variant.as_deref() {
        None if typed => platform.variant = Some(usual.to_owned()),
        Some(variant) if variant == usual && !typed => platform.variant = None,
        _ => {}
    }
    Ok(platform)
}

/// The platform of a flag that is empty when none is wanted.
///
/// # Errors
/// As [`parse`].
pub fn optional(text: Option<&str>) -> Result<Option<Platform>, String> {
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_go_to_the_daemon_as_from_docker() {
        let cases = [
            ("linux/x86_64", r#"{"architecture":"amd64","os":"linux"}"#),
            ("arm64", r#"{"architecture":"arm64","os":"linux"}"#),
            ("linux/arm", r#"{"architecture":"arm","os":"linux"}"#),
            (
                "linux/arm/7",
                r#"{"architecture":"arm","os":"linux","variant":"v7"}"#,
            ),
            (
                "linux/arm64/v8",
                r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#,
            ),
            (
                "linux/aarch64/v9",
                r#"{"architecture":"arm64","os":"linux","variant":"v9"}"#,
            ),
            ("LINUX/AMD64", r#"{"architecture":"amd64","os":"linux"}"#),
        ];
        for (text, json) in cases {
            let platform = parse(text).unwrap();
            assert_eq!(serde_json::to_string(&platform).unwrap(), json, "{text}");
        }
        assert_eq!(
            parse("a/b/c/d").unwrap_err(),
            "\"a/b/c/d\": cannot parse platform specifier: invalid argument"
        );
        assert_eq!(optional(Some("")).unwrap(), None);
    }
}
