//! `GET /images/search`, with the filters the daemon applies.

use cais_types::api::SearchResult;
use cais_types::api::query::{Filters, SearchQuery};
use cais_types::{Error, Result};

use super::Registries;

/// Results when no limit is given, as Docker has it.
const LIMIT: u32 = 25;

impl Registries {
    /// Searches the index of a registry.
    ///
    /// # Errors
    /// Invalid filters; the registry's.
    pub async fn search(&self, query: SearchQuery) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::new(&query.filters)?;
        if wanted.nothing {
            return Ok(Vec::new());
        }
        let limit = Some(query.limit.unwrap_or(LIMIT));
        let mut found = self.access.search(&query.term, limit, query.auth).await?;
        found.retain(|result| wanted.accepts(result));
        for result in &mut found {
            result.is_automated = false;
        }
        Ok(found)
    }
}

struct Wanted {
    /// Automated builds are history.
    nothing: bool,
    official: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn new(filters: &Filters) -> Result<Self> {
        filters.validate(&["is-automated", "is-official", "stars"])?;
        let has = |name: &str| filters.iter().any(|(other, _)| other == name);
        let mut stars = 0;
        for (_, values) in filters.iter().filter(|(name, _)| *name == "stars") {
            for value in values {
                let number: i64 = value.parse().map_err(|_| {
                    Error::invalid(format!(
                        "invalid filter 'stars={value}': strconv.Atoi: parsing {value:?}: invalid syntax"
                    ))
                })?;
                stars = stars.max(number);
            }
        }
        let official = filters.bool_or("is-official", false)?;
        Ok(Self {
            nothing: filters.bool_or("is-automated", false)?,
            official: has("is-official").then_some(official),
            stars,
        })
    }

    fn accepts(&self, result: &SearchResult) -> bool {
        self.official
            .is_none_or(|official| official == result.is_official)
            && result.star_count >= self.stars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_dockers() {
        let result = SearchResult {
            star_count: 5,
            is_official: true,
            ..SearchResult::default()
        };
        for (filters, accepts) in [
            ("{}", true),
            (r#"{"stars":["5"]}"#, true),
            (r#"{"stars":["1","6"]}"#, false),
            (r#"{"is-official":["true"]}"#, true),
            (r#"{"is-official":["false"]}"#, false),
        ] {
            let wanted = Wanted::new(&Filters::from_json(filters).unwrap()).unwrap();
            assert_eq!(wanted.accepts(&result), accepts, "{filters}");
            assert!(!wanted.nothing);
        }
        for bad in [r#"{"stars":["x"]}"#, r#"{"color":["red"]}"#] {
            assert!(Wanted::new(&Filters::from_json(bad).unwrap()).is_err());
        }
    }
}
