//! The flags that let images go by themselves.

use std::time::Duration;

use anyhow::{Result, bail};
use cais_services::images::GcPolicy;
use clap::Args;

/// Which unused images are removed without being told to, off by default.
#[derive(Debug, Args)]
pub struct GcOptions {
    /// Remove images that no container has used for this long (such as 720h)
    #[arg(long = "image-gc-max-age", value_name = "duration", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Per cent of the disk in use from which on the least recently used images are removed
    #[arg(long = "image-gc-high-watermark", value_name = "per cent", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub high: Option<u8>,
    /// Per cent of the disk in use at which that ends; without it, 5 below the high watermark
    #[arg(long = "image-gc-low-watermark", value_name = "per cent", value_parser = clap::value_parser!(u8).range(0..=100),
          requires = "high")]
    pub low: Option<u8>,
    /// Names of images that stay, with * and ? as in the reference filter
    #[arg(long = "image-gc-keep", value_name = "list")]
    pub keep: Vec<String>,
    /// How often to look for such images
    #[arg(long = "image-gc-interval", value_name = "duration", default_value = "10m", value_parser = duration)]
    pub interval: Duration,
}

impl GcOptions {
    /// What to remove; nothing at all without one of the flags.
    pub fn policy(&self) -> Result<Option<GcPolicy>> {
        let low = |high: u8| self.low.unwrap_or_else(|| high.saturating_sub(5));
        let watermarks = self.high.map(|high| (high, low(high)));
        if let Some((high, low)) = watermarks
            && low >= high
        {
            bail!("--image-gc-low-watermark must be below --image-gc-high-watermark");
        }
        if self.interval.is_zero() {
            bail!("--image-gc-interval must not be 0");
        }
        let policy = GcPolicy {
            max_age: self.max_age,
            watermarks,
            keep: self.keep.clone(),
        };
        let wanted = policy.max_age.is_some() || policy.watermarks.is_some();
        Ok(wanted.then_some(policy))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>();
    let parsed = parsed.map_err(|error| error.to_string())?;
    Duration::try_from(parsed).map_err(|_| "a duration must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        gc: GcOptions,
    }

    fn policy(flags: &[&str]) -> Result<Option<GcPolicy>> {
        let flags = [&["x"], flags].concat();
        Flags::try_parse_from(flags)?.gc.policy()
    }

    #[test]
    fn nothing_is_removed_without_a_flag_and_watermarks_are_in_order() {
        assert_eq!(policy(&[]).unwrap(), None);
        assert_eq!(policy(&["--image-gc-keep=x"]).unwrap(), None);
        let one = policy(&["--image-gc-high-watermark=80"]).unwrap().unwrap();
        assert_eq!((one.max_age, one.watermarks), (None, Some((80, 75))));
        let age = policy(&["--image-gc-max-age=36h"])
            .unwrap()
            .unwrap()
            .max_age;
        assert_eq!(age, Some(Duration::from_secs(36 * 3600)));
        for bad in [
            &[
                "--image-gc-high-watermark=80",
                "--image-gc-low-watermark=80",
            ][..],
            &["--image-gc-low-watermark=80"],
            &["--image-gc-high-watermark=101"],
            &["--image-gc-max-age=-1h"],
            &["--image-gc-max-age=soon"],
            &["--image-gc-max-age=1h", "--image-gc-interval=0s"],
        ] {
            assert!(policy(bad).is_err(), "{bad:?}");
        }
    }
}
