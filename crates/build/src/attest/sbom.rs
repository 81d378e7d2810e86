//! The bill of materials of an image: what packages are in it, as an SPDX 2.3 document.

use std::os::fd::BorrowedFd;

use cais_types::Digest;
use cais_types::oci::set::Statement;
use serde_json::{Value, json};

use super::packages::{self, Package};

/// The type of the predicate.
pub const SPDX: &str = "https://spdx.dev/Document";
/// The element of the document, and that of the image.
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
/// What a field has that says nothing.
const NOTHING: &str = "NOASSERTION";

/// The packages in the tree of an image. `created` is RFC 3339 in whole seconds.
pub fn document(root: BorrowedFd<'_>, image: &Digest, name: &str, created: &str) -> Statement {
    Statement {
        predicate_type: SPDX.to_owned(),
        predicate: describe(&packages::find(root), image, name, created),
    }
}

fn describe(packages: &[Package], image: &Digest, name: &str, created: &str) -> Value {
    let ids: Vec<String> = packages.iter().map(id).collect();
    let describes = relation(DOCUMENT, "DESCRIBES", IMAGE);
    let contains = ids.iter().map(|id| relation(IMAGE, "CONTAINS", id));
    let relations: Vec<Value> = [describes].into_iter().chain(contains).collect();
    let own = json!({
        "SPDXID": IMAGE,
        "name": name,
        "versionInfo": image.to_string(),
        "supplier": NOTHING,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": "CONTAINER",
    });
    let elements = ids.iter().zip(packages);
    let elements = elements.map(|(id, package)| element(id, package));
    let elements: Vec<Value> = [own].into_iter().chain(elements).collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": name,
        "documentNamespace": namespace(&elements, created),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: cais-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": elements,
        "relationships": relations,
    })
}

fn element(id: &str, package: &Package) -> Value {
    let supplier = match package.supplier.as_str() {
        "" => NOTHING.to_owned(),
        supplier => format!("Person: {supplier}"),
    };
    let mut element = json!({
        "SPDXID": id,
        "name": package.name,
        "supplier": supplier,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "sourceInfo": format!("acquired package info from: {}", package.source),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.url,
        }],
    });
    if !package.version.is_empty() {
        element["versionInfo"] = json!(package.version);
    }
    // What managers say of licences is no licence expression by SPDX's rules.
    if !package.licence.is_empty() {
        element["licenseComments"] = json!(format!("declared as: {}", package.licence));
    }
    element
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// An identifier of letters, digits, `.` and `-`, another one for each package.
fn id(package: &Package) -> String {
    let plain = |char: char| match char {
        char if char.is_ascii_alphanumeric() || char == '.' => char,
        _ => '-',
    };
    let name: String = package.name.chars().map(plain).collect();
    let what = format!("{} {}", package.url, package.source);
    format!(
        "SPDXRef-Package-{name}-{}",
        Digest::of(what.as_bytes()).short()
    )
}

/// A name that no other document has.
fn namespace(elements: &[Value], created: &str) -> String {
    let text = json!([elements, created]).to_string();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]);
    // RFC 9562: version 8, of the variant that all others are.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    format!("urn:uuid:{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_related_and_have_names_of_their_own() {
        let package = |name: &str, source: &str| Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            url: format!("pkg:npm/{name}@1"),
            licence: String::new(),
            supplier: String::new(),
            source: source.to_owned(),
        };
        let packages = [
            package("a+b", "/x"),
            package("a+b", "/y"),
            package("c", "/x"),
        ];
        let document = describe(
            &packages,
            &Digest::of(b"image"),
            "made:1",
            "2026-01-02T03:04:05Z",
        );
        let elements = document["packages"].as_array().unwrap();
        let ids: std::collections::BTreeSet<&str> = elements
            .iter()
            .map(|one| one["SPDXID"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 4);
        let valid = |id: &str| {
            let rest = id.strip_prefix("SPDXRef-").unwrap();
            rest.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
        };
        assert!(ids.iter().all(|id| valid(id)), "{ids:?}");
        let relations = document["relationships"].as_array().unwrap();
        assert_eq!(relations[0]["relationshipType"], "DESCRIBES");
        for relation in relations {
            let related = relation["relatedSpdxElement"].as_str().unwrap();
            assert!(ids.contains(related));
        }
        let namespace = document["documentNamespace"].as_str().unwrap();
        assert_eq!(namespace.len(), "urn:uuid:".len() + 36);
        let other = describe(
            &packages,
            &Digest::of(b"other"),
            "made:1",
            "2026-01-02T03:04:05Z",
        );
        assert_ne!(document["documentNamespace"], other["documentNamespace"]);
    }
}
