//! Limits of the OCI specification, which speak v1, in terms of v2. Pure.

use super::CgroupError;

/// `cpu.weight` for `cpu.shares`: 2, 1024 and 262144 become 1, 100 and 10000, with a quadratic curve between in the
/// logarithms, as runc does since 1.3.2. 0 means unset.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let exponent = (shares as f64).log2();
            let exponent = exponent.mul_add(exponent, 125.0 * exponent) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000).
pub(super) fn io_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        _ => 1 + u64::from(weight).saturating_sub(10) * 9999 / 990,
    }
}

/// A limit as v2 files want it: negative is `max`.
pub(super) fn or_max(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// `memory.swap.max` for memory and swap together, `None` when there is nothing to write.
pub(super) fn swap_max(swap: Option<i64>, memory: Option<i64>) -> Result<Option<i64>, CgroupError> {
    let invalid = |reason: &str| Err(CgroupError::Invalid(reason.to_owned()));
    match (swap.unwrap_or(0), memory.unwrap_or(0)) {
        // No memory limit means no limit for both, unless swap is limited by itself.
        (0, -1) | (-1, _) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (_, 0) => invalid("unable to set swap limit without memory limit"),
        (_, memory) if memory < 0 => invalid("invalid memory value"),
        (swap, memory) if swap < memory => invalid("memory+swap limit should be >= memory limit"),
        (swap, memory) => Ok(Some(swap - memory)),
    }
}

/// `cpu.max` for quota and period, `None` when neither is there.
pub(super) fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let (quota, period) = (quota.unwrap_or(0), period.unwrap_or(0));
    if quota == 0 && period == 0 {
        return None;
    }
    let quota = if quota > 0 {
        quota.to_string()
    } else {
        "max".to_owned()
    };
    Some(if period == 0 {
        quota
    } else {
        format!("{quota} {period}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_at_the_defaults_and_ends() {
        assert_eq!(
            [0, 1, 2, 1024, 262_144, u64::MAX].map(cpu_weight),
            [0, 1, 1, 100, 10_000, 10_000]
        );
        assert_eq!([512, 2048].map(cpu_weight), [59, 174]);
        assert!(
            (2..262_144)
                .step_by(97)
                .all(|shares| cpu_weight(shares) <= cpu_weight(shares + 97))
        );
        assert_eq!([0, 10, 500, 1000].map(io_weight), [0, 1, 4950, 10_000]);
    }

    #[test]
    fn swap_is_what_is_beyond_memory() {
        assert_eq!(swap_max(Some(300), Some(100)).unwrap(), Some(200));
        assert_eq!(swap_max(Some(100), Some(100)).unwrap(), Some(0));
        assert_eq!(swap_max(Some(-1), Some(100)).unwrap(), Some(-1));
        assert_eq!(swap_max(None, Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap_max(None, Some(100)).unwrap(), None);
        assert!(swap_max(Some(50), Some(100)).is_err());
        assert!(swap_max(Some(50), None).is_err());
    }

    #[test]
    fn processor_time_is_one_line() {
        assert_eq!(
            cpu_max(Some(5000), Some(10_000)).as_deref(),
            Some("5000 10000")
        );
        assert_eq!(
            cpu_max(Some(-1), Some(10_000)).as_deref(),
            Some("max 10000")
        );
        assert_eq!(cpu_max(Some(5000), None).as_deref(), Some("5000"));
        assert_eq!(cpu_max(None, None), None);
    }
}
