//! `--annotation`: keys and values of the documents that lead to an image, as buildx has them.

use cais_types::Error;
use cais_types::oci::{ImageSet, Member, Platform};

/// Everything that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    level: Level,
    /// Only for this one.
    platform: Option<Platform>,
    key: String,
    value: String,
}

/// The document that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

impl Annotations {
    /// Reads `[LEVEL[[PLATFORM]][,LEVEL...]:]KEY=VALUE`; without a level it is the manifest.
    ///
    /// # Errors
    /// Invalid: no value, a level or a platform that there is not.
    pub fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut all = Vec::new();
        for text in texts {
            let invalid =
                || Error::invalid(format!("invalid annotation {text:?}: expected key=value"));
            let (place, value) = text.split_once('=').ok_or_else(invalid)?;
            let (levels, key) = match place.split_once(':') {
                // A key may have a colon of its own.
                Some((levels, key)) if is_level(levels) => (levels, key),
                _ => ("manifest", place),
            };
            if key.is_empty() {
                return Err(invalid());
            }
            for level in levels.split(',') {
                let (level, platform) = place_of(level)?;
                all.push(Annotation {
                    level,
                    platform,
                    key: key.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
        Ok(Self(all))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an index is to have some.
    pub fn want_index(&self) -> bool {
        let mut all = self.0.iter();
        all.any(|one| matches!(one.level, Level::Index | Level::IndexDescriptor))
    }

    /// Gives those of an image for this platform to its manifest.
    pub fn annotate(&self, member: &mut Member, platform: &Platform) {
        for one in &self.0 {
            let wanted = one.platform.as_ref();
            if wanted.is_some_and(|wanted| wanted != platform) {
                continue;
            }
            let annotations = match one.level {
                Level::Manifest => &mut member.annotations,
                Level::ManifestDescriptor => &mut member.descriptor_annotations,
                Level::Index | Level::IndexDescriptor => continue,
            };
            annotations.insert(one.key.clone(), one.value.clone());
        }
    }

    /// Gives an index its own.
    pub fn annotate_index(&self, set: &mut ImageSet) {
        for one in &self.0 {
            let annotations = match one.level {
                Level::Index => &mut set.annotations,
                Level::IndexDescriptor => &mut set.descriptor_annotations,
                Level::Manifest | Level::ManifestDescriptor => continue,
            };
            annotations.insert(one.key.clone(), one.value.clone());
        }
    }
}

/// Whether a text names documents. One that cannot be a key is taken for such, so that what is mistyped is refused.
fn is_level(text: &str) -> bool {
    let first = text.split([',', '[']).next().unwrap_or_default();
    !first.is_empty() && first.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

fn place_of(text: &str) -> Result<(Level, Option<Platform>), Error> {
    let (name, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, platform)) => (name, Some(platform)),
        None => (text, None),
    };
    let level = match name {
        "manifest" => Level::Manifest,
        "manifest-descriptor" => Level::ManifestDescriptor,
        "index" => Level::Index,
        "index-descriptor" => Level::IndexDescriptor,
        other => return Err(Error::invalid(format!("unknown annotation type {other:?}"))),
    };
    let platform = platform.map(|text| {
        let platform = text.parse::<Platform>();
        platform.map_err(|error| Error::invalid(error.to_string()))
    });
    Ok((level, platform.transpose()?))
}

#[cfg(test)]
mod tests {
    use cais_types::Digest;

    use super::*;

    fn parse(texts: &[&str]) -> Result<Annotations, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Annotations::parse(&texts).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn levels_and_platforms_choose_the_document() {
        let all = parse(&[
            "a=1",
            "org.x:y=2",
            "manifest[linux/arm64]:b=3",
            "index,manifest-descriptor:c=4=5",
            "index-descriptor:d=",
        ])
        .unwrap();
        assert!(all.want_index());
        let mut set = ImageSet::default();
        for platform in ["linux/amd64", "linux/arm64"] {
            let mut member = Member::new(Digest::of(platform.as_bytes()));
            all.annotate(&mut member, &platform.parse().unwrap());
            set.members.push(member);
        }
        all.annotate_index(&mut set);
        let keys = |map: &cais_types::oci::set::Annotations| {
            map.iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&set.members[0].annotations), ["a=1", "org.x:y=2"]);
        assert_eq!(
            keys(&set.members[1].annotations),
            ["a=1", "b=3", "org.x:y=2"]
        );
        assert_eq!(keys(&set.members[1].descriptor_annotations), ["c=4=5"]);
        assert_eq!(keys(&set.annotations), ["c=4=5"]);
        assert_eq!(keys(&set.descriptor_annotations), ["d="]);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (text, error) in [
            ("a", "invalid annotation \"a\": expected key=value"),
            (
                "manifest:=b",
                "invalid annotation \"manifest:=b\": expected key=value",
            ),
            ("image:a=b", "unknown annotation type \"image\""),
        ] {
            assert_eq!(parse(&[text]).unwrap_err(), error);
        }
        assert!(parse(&["manifest[a b]:c=d"]).is_err());
    }
}
