//! `GET /images/json` and its filters.

use cais_types::api::query::{Filters, ImageListQuery};
use cais_types::api::{ImageSummary, ManifestSummary};
use cais_types::{Error, Result};

use super::{ImageCatalog, ImageUser, Images};

impl Images {
    /// `GET /images/json`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn list(&self, query: ImageListQuery) -> Result<Vec<ImageSummary>> {
        query.filters.validate(&[
            "before",
            "dangling",
            "label",
            "label!",
            "reference",
            "since",
            "until",
        ])?;
        let all = query.all;
        let filter = {
            let filters = query.filters.clone();
            self.with_catalog(move |catalog| ImageFilter::new(catalog, filters))
                .await?
        };
        let mut images = self.with_catalog(move |catalog| catalog.list(all)).await?;
        images.retain_mut(|image| filter.accepts(image));
        let users = self.users();
        for image in &mut images {
            if query.shared_size {
                let count = users
                    .iter()
                    .filter(|user| user.image.to_string() == image.id)
                    .count();
                image.containers = i64::try_from(count).unwrap_or(i64::MAX);
            } else {
                image.shared_size = -1;
            }
            if !query.digests && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
                image.repo_digests.clear();
            }
        }
        if query.manifests {
            images = self
                .with_catalog(move |catalog| with_manifests(catalog, images, &users))
                .await?;
        }
        Ok(images)
    }
}

fn with_manifests(
    catalog: &dyn ImageCatalog,
    mut images: Vec<ImageSummary>,
    users: &[ImageUser],
) -> Result<Vec<ImageSummary>> {
    for image in &mut images {
        let manifests = catalog.manifests(&image.repo_tags)?;
        image.manifests = manifests.map(|manifests| {
            let manifests = manifests.into_iter();
            manifests
                .map(|(id, mut manifest): (_, ManifestSummary)| {
                    if let Some(data) = &mut manifest.image_data {
                        let users = users.iter().filter(|user| user.image == id);
                        data.containers = users.map(|user| user.container.to_string()).collect();
                    }
                    manifest
                })
                .collect()
        });
    }
    Ok(images)
}

/// Filters of an image list, with every name resolved once.
struct ImageFilter {
    filters: Filters,
    dangling: Option<bool>,
    /// Unix seconds.
    before: Option<i64>,
    since: Option<i64>,
    references: Vec<regex_lite::Regex>,
}

impl ImageFilter {
    fn new(catalog: &dyn ImageCatalog, filters: Filters) -> Result<Self> {
        let seconds = |time: &str| {
            time.parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_second)
        };
        let created = |name: &str| match filters.get(name).first() {
            None => Ok(None),
            Some(image) => catalog
                .inspect(image, None)
                .map(|image| seconds(&image.created)),
        };
        let mut before = created("before")?;
        if let Some(until) = filters.get("until").first() {
            let until = seconds(&cais_engine::time::parse_moment(until)?);
            before = [before, until].into_iter().flatten().min();
        }
        Ok(Self {
            dangling: filters
                .contains("dangling")
                .then(|| filters.bool_or("dangling", false))
                .transpose()?,
            before,
            since: created("since")?,
            references: filters
                .get("reference")
                .iter()
                .map(|pattern| path_pattern(pattern))
                .collect::<Result<_>>()?,
            filters,
        })
    }

    /// Whether an image passes; names that the reference filter does not match are taken out.
    fn accepts(&self, image: &mut ImageSummary) -> bool {
        let labels = image.labels.clone().unwrap_or_default();
        let passes = self
            .dangling
            .is_none_or(|dangling| dangling == image.repo_tags.is_empty())
            && self.before.is_none_or(|before| image.created < before)
            && self.since.is_none_or(|since| image.created > since)
            && self.filters.matches_labels(&labels);
        if !passes || self.references.is_empty() {
            return passes;
        }
        let named = |name: &String| matches_any(&self.references, name);
        image.repo_tags.retain(named);
        image.repo_digests.retain(named);
        !image.repo_tags.is_empty() || !image.repo_digests.is_empty()
    }
}

/// Whether a name, with its tag or without, matches one of the patterns.
pub fn matches_any(patterns: &[regex_lite::Regex], name: &str) -> bool {
    let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
    let repository = match bare.rsplit_once(':') {
        Some((front, tag)) if !tag.contains('/') => front,
        _ => bare,
    };
    patterns
        .iter()
        .any(|pattern| pattern.is_match(name) || pattern.is_match(repository))
}

/// Go's `path.Match`: `*` and `?` stop at a slash.
pub fn path_pattern(pattern: &str) -> Result<regex_lite::Regex> {
    let mut text = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' | ']' | '-' => text.push(c),
            other => text.push_str(&regex_lite::escape(&other.to_string())),
        }
    }
    text.push('$');
    regex_lite::Regex::new(&text)
        .map_err(|_| Error::invalid(format!("invalid filter 'reference={pattern}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, name, want) in [
            ("busy*", "busybox", true),
            ("busy*", "a/busybox", false),
            ("*/busybox", "a/busybox", true),
            ("busybox:1.?", "busybox:1.2", true),
            ("busybox:1.?", "busybox:1x2", false),
            ("b[ua]sybox", "basybox", true),
        ] {
            assert_eq!(
                path_pattern(pattern).unwrap().is_match(name),
                want,
                "{pattern} {name}"
            );
        }
    }
}
