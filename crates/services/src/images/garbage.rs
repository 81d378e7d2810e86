//! Images that go by themselves: not used for long, or in the way on a full disk.

use std::time::Duration;

use cais_types::Result;

use super::listing::{matches_any, path_pattern};
use super::{GcPolicy, Images};

impl Images {
    /// Removes what the policy wants gone, every `interval` from now on; ends only with its task.
    ///
    /// # Errors
    /// Invalid: a pattern of names to be kept.
    pub async fn keep_tidy(&self, policy: GcPolicy, interval: Duration) -> Result<()> {
        let patterns = policy.keep.iter().map(|pattern| path_pattern(pattern));
        let patterns: Vec<_> = patterns.collect::<Result<_>>()?;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (policy, users, patterns) = (policy.clone(), self.users(), patterns.clone());
            let collected = self
                .with_catalog(move |catalog| {
                    let keep =
                        |names: &[String]| names.iter().any(|name| matches_any(&patterns, name));
                    catalog.collect_garbage(&policy, &users, &keep)
                })
                .await;
            match collected {
                Ok((removed, freed)) => {
                    let items = self.told(&removed);
                    if !items.is_empty() {
                        tracing::info!(images = items.len(), freed, "unused images were removed");
                    }
                }
                Err(error) => tracing::warn!(%error, "unused images could not be removed"),
            }
        }
    }
}
