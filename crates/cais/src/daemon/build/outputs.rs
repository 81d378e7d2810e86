//! The parameter `outputs` of `POST /build`: what becomes of the image besides the names of the request.

use std::collections::BTreeMap;

use cais_types::{Error, Result};
use serde::Deserialize;

/// One of the list, as clients send it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    r#type: String,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// More names.
    pub names: Vec<String>,
    /// Times of change in new layers are those of the image at most.
    pub rewrite_timestamp: bool,
}

impl Outputs {
    /// Reads the parameter; empty it is nothing.
    ///
    /// # Errors
    /// Invalid: no such list. Unsupported: what would go to the client or to a registry.
    pub fn parse(text: &str) -> Result<Self> {
        let mut outputs = Self::default();
        if text.is_empty() {
            return Ok(outputs);
        }
        let list: Vec<Output> = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("error reading outputs: {error}")))?;
        for output in list {
            outputs.add(output)?;
        }
        Ok(outputs)
    }

    fn add(&mut self, output: Output) -> Result<()> {
        let attrs = output.attrs.unwrap_or_default();
        match output.r#type.as_str() {
            "image" | "moby" | "cacheonly" => {}
            "docker" if !attrs.contains_key("dest") => {}
            kind => {
                return Err(Error::unsupported(format!(
                    "output of type {kind:?} of the classic builder is not built yet: \
                     its result is an image in the store"
                )));
            }
        }
        for (key, value) in attrs {
            match (key.as_str(), value.as_str()) {
                ("name", names) => {
                    let names = names.split(',').filter(|name| !name.is_empty());
                    self.names.extend(names.map(str::to_owned));
                }
                ("rewrite-timestamp", "true") => self.rewrite_timestamp = true,
                ("rewrite-timestamp" | "push", "false") => {}
                (key, _) => {
                    return Err(Error::unsupported(format!(
                        "output attribute {key:?} of the classic builder is not built yet"
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_get_names_and_the_rest_is_refused() {
        let parse = |text| Outputs::parse(text).map_err(|error| error.message().to_owned());
        assert_eq!(parse("").unwrap(), Outputs::default());
        let text =
            r#"[{"Type":"image","Attrs":{"name":"a:1,b","push":"false"}},{"Type":"cacheonly"}]"#;
        assert_eq!(parse(text).unwrap().names, ["a:1", "b"]);
        let text = r#"[{"Type":"docker","Attrs":{"rewrite-timestamp":"true"}}]"#;
        assert!(parse(text).unwrap().rewrite_timestamp);
        for (text, error) in [
            ("{", "error reading outputs"),
            (
                r#"[{"Type":"local","Attrs":{"dest":"x"}}]"#,
                "output of type \"local\"",
            ),
            (
                r#"[{"Type":"docker","Attrs":{"dest":"x"}}]"#,
                "output of type \"docker\"",
            ),
            (
                r#"[{"Type":"image","Attrs":{"push":"true"}}]"#,
                "output attribute \"push\"",
            ),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.starts_with(error), "{text}: {told}");
        }
    }
}
