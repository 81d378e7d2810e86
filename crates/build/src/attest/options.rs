//! `--attest`, `--provenance` and `--sbom`, as buildx has them.

use cais_types::Error;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    pub provenance: Option<Provenance>,
    pub sbom: Option<Sbom>,
}

/// Who makes a bill of materials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sbom {
    /// This builder.
    Own,
    /// An image, by BuildKit's protocol for scanners.
    Generator(String),
}

/// How a build is described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// With arguments, secrets' names, sources and steps.
    pub max: bool,
    pub version: Version,
    /// `builder.id`.
    pub builder: String,
    /// Whether whoever builds says that the result is the same each time.
    pub reproducible: bool,
}

/// The version of SLSA's predicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V02,
    V1,
}

impl Attestations {
    /// Reads attestations as `--attest` has them; a later one of the same type wins.
    ///
    /// # Errors
    /// Invalid: a type, a key or a value that there is not.
    pub fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut attestations = Self::default();
        for text in texts {
            attestations.add(text)?;
        }
        Ok(attestations)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, text: &str) -> Result<(), Error> {
        let bad = |text: String| Err(Error::invalid(text));
        let (mut kind, mut disabled, mut other) = ("", false, false);
        let mut sbom = Sbom::Own;
        let mut provenance = Provenance::default();
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return bad(format!("invalid value {field}, expecting k=v"));
            };
            match key.trim() {
                "type" => kind = value,
                "disabled" => disabled = boolean(key, value)?,
                "mode" => {
                    provenance.max = match value {
                        "max" => true,
                        "min" => false,
                        _ => return bad(format!("unsupported provenance mode {value:?}")),
                    }
                }
                "version" => {
                    provenance.version = match value {
                        "v0.2" => Version::V02,
                        "v1" => Version::V1,
                        _ => return bad(format!("unsupported provenance version {value:?}")),
                    }
                }
                "builder-id" => value.clone_into(&mut provenance.builder),
                "reproducible" => provenance.reproducible = boolean(key, value)?,
                "generator" if value.is_empty() => {
                    return bad("generator wants the name of an image".to_owned());
                }
                "generator" => sbom = Sbom::Generator(value.to_owned()),
                other => return bad(format!("unknown attestation attribute {other:?}")),
            }
            other |= !matches!(key.trim(), "type" | "disabled" | "generator");
        }
        match kind {
            "provenance" if sbom != Sbom::Own => {
                return bad(format!("a provenance has no such attribute: {text}"));
            }
            "provenance" => self.provenance = Some(provenance).filter(|_| !disabled),
            "sbom" if other => return bad(format!("an sbom has no such attribute: {text}")),
            "sbom" => self.sbom = Some(sbom).filter(|_| !disabled),
            "" => return bad("attestation type not specified".to_owned()),
            other => return bad(format!("unsupported attestation type {other:?}")),
        }
        Ok(())
    }
}

/// `--provenance` and `--sbom` as `--attest` would have it: `true`, `false`, or attributes.
pub fn short(kind: &str, value: &str) -> String {
    match value {
        "" | "true" | "1" => format!("type={kind}"),
        "false" | "0" => format!("type={kind},disabled=true"),
        attributes => format!("type={kind},{attributes}"),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::invalid(format!("invalid value {value:?} for {key}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Attestations, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Attestations::parse(&texts).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_last_of_a_type_wins_and_may_end_it() {
        assert!(parse(&[]).unwrap().is_empty());
        let max = parse(&[&short("provenance", "mode=max,version=v1"), "type=sbom"]).unwrap();
        assert_eq!(max.sbom, Some(Sbom::Own));
        let provenance = max.provenance.unwrap();
        assert!(provenance.max && provenance.version == Version::V1);
        let none = parse(&["type=sbom", &short("sbom", "false")]).unwrap();
        assert!(none.is_empty());
        let generated = parse(&[&short("sbom", "generator=x/y:1")]).unwrap().sbom;
        assert_eq!(generated, Some(Sbom::Generator("x/y:1".to_owned())));
        let id = parse(&["type=provenance,mode=min,builder-id=https://x/1"]).unwrap();
        assert_eq!(id.provenance.unwrap().builder, "https://x/1");
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (text, error) in [
            ("sbom", "invalid value sbom, expecting k=v"),
            ("mode=max", "attestation type not specified"),
            ("type=vsa", "unsupported attestation type \"vsa\""),
            (
                "type=provenance,mode=mid",
                "unsupported provenance mode \"mid\"",
            ),
            (
                "type=provenance,version=v3",
                "unsupported provenance version \"v3\"",
            ),
            (
                "type=provenance,colour=red",
                "unknown attestation attribute \"colour\"",
            ),
            (
                "type=sbom,mode=max",
                "an sbom has no such attribute: type=sbom,mode=max",
            ),
            (
                "type=sbom,generator=",
                "generator wants the name of an image",
            ),
            (
                "type=provenance,generator=x/y",
                "a provenance has no such attribute: type=provenance,generator=x/y",
            ),
        ] {
            assert_eq!(parse(&[text]).unwrap_err(), error);
        }
    }
}
