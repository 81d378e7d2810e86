//! `--attest`, `--provenance`, `--sbom` and `--annotation`.

use cais_build::attest::{Annotations, Attestations, options};

use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// What is asked for, as parameters of the request.
///
/// # Errors
/// Types and attributes that there are not; an image without a name, which the attestations would belong to.
pub fn wanted(args: &Parsed, names: &[String]) -> Result<Vec<(String, String)>> {
    let mut texts = args.list("attest");
    for kind in ["sbom", "provenance"] {
        if args.changed(kind) {
            texts.push(options::short(kind, &args.string(kind)));
        }
    }
    let attestations =
        Attestations::parse(&texts).map_err(|error| CliError::new(error.message().to_owned()))?;
    let said = args.list("annotation");
    let annotations =
        Annotations::parse(&said).map_err(|error| CliError::new(error.message().to_owned()))?;
    if attestations.is_empty() && annotations.is_empty() {
        return Ok(Vec::new());
    }
    if names.is_empty() {
        return Err(CliError::new(
            "tag is needed for attestations and annotations: they belong to a name",
        ));
    }
    let parameter = |name: &'static str| move |text: String| (name.to_owned(), text);
    let texts = texts.into_iter().map(parameter("attest"));
    Ok(texts
        .chain(said.into_iter().map(parameter("annotation")))
        .collect())
}
