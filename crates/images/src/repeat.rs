//! Images made of a layer that another image has: what a build takes from an image that it was told to trust as a cache, by
//! the rule of docker's classic builder. Histories are compared, so that a step counts only on top of the same steps.

use cais_types::Digest;
use serde_json::Value;

use crate::addition::NewImage;
use crate::commit::{CommitRequest, push};
use crate::error::ImageError;
use crate::store::Store;

impl Store {
    /// Makes the image that `source` was when its history was that of the parent and one more line, if that line is the
    /// request's. Its configuration is the request's. A step that writes `files` must have a layer of its own, as a squashed image
    /// has them elsewhere; one that does not must have none; without a word either is right.
    pub fn repeat_step(
        &self,
        source: &Digest,
        files: Option<bool>,
        request: CommitRequest,
    ) -> Result<Option<Digest>, ImageError> {
        let theirs: Value =
            serde_json::from_slice(&self.config_bytes(source)?).map_err(|error| {
                ImageError::Archive(format!("invalid image configuration: {error}"))
            })?;
        let mut document = self.ground(request.parent.as_ref(), request.platform.as_ref())?;
        let Some(step) = next(&document["history"], &theirs["history"]) else {
            return Ok(None);
        };
        let empty = step["empty_layer"] == true;
        let other_time = request
            .created
            .as_ref()
            .is_some_and(|time| step["created"] != time.as_str());
        if step["created_by"] != request.created_by.as_str()
            || step["author"].as_str().unwrap_or_default() != request.author
            || other_time
            || files.is_some_and(|files| empty == files)
        {
            return Ok(None);
        }
        let (ours, layers) = (
            &document["rootfs"]["diff_ids"],
            &theirs["rootfs"]["diff_ids"],
        );
        if !empty {
            let Some(layer) = next(ours, layers) else {
                return Ok(None);
            };
            push(&mut document["rootfs"]["diff_ids"], layer.clone());
        }
        push(&mut document["history"], step.clone());
        document["created"] = step["created"].clone();
        if !request.author.is_empty() {
            document["author"] = Value::String(request.author);
        }
        document["config"] = Value::Object(request.config);
        let committed = self.commit(NewImage {
            config: document.to_string().into_bytes(),
            parent: request.parent,
            holder: request.holder,
            ..NewImage::default()
        })?;
        Ok(Some(committed.image.id))
    }
}

/// What a list has after all of another one.
fn next<'a>(ours: &Value, theirs: &'a Value) -> Option<&'a Value> {
    let (ours, theirs) = (ours.as_array()?, theirs.as_array()?);
    let same = theirs.get(..ours.len())? == &ours[..];
    theirs.get(ours.len()).filter(|_| same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_same_beginning_has_a_next() {
        let theirs = json!(["a", "b", "c"]);
        assert_eq!(next(&json!([]), &theirs), Some(&json!("a")));
        assert_eq!(next(&json!(["a", "b"]), &theirs), Some(&json!("c")));
        assert_eq!(next(&json!(["a", "c"]), &theirs), None);
        assert_eq!(next(&theirs, &theirs), None);
        assert_eq!(next(&json!(["a"]), &Value::Null), None);
    }
}
