//! Sizes as people write them: `512m`, `1.5GiB`, `64 kB`.

/// A text that is no size. `Display` is what Docker prints.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid size: '{0}'")]
pub struct SizeError(String);

/// Bytes of a size in powers of 1024, as memory is counted. `b`, `k`, `m`, `g`, `t`, `p`, any case, `kb` and `kib` alike.
///
/// # Errors
/// [`SizeError`] when it is no number, negative, or has an unknown unit.
pub fn ram_in_bytes(text: &str) -> Result<i64, SizeError> {
    parse(text, 1024.0)
}

/// Bytes of a size in powers of 1000, as disks are counted.
///
/// # Errors
/// As [`ram_in_bytes`].
pub fn from_human_size(text: &str) -> Result<i64, SizeError> {
    parse(text, 1000.0)
}

fn parse(text: &str, base: f64) -> Result<i64, SizeError> {
    let bad = || SizeError(text.to_owned());
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = number.parse().map_err(|_| bad())?;
    if !plain || !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(bad());
    }
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, as wanted of absurd sizes"
    )]
    Ok((value * base.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let cases = [
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kB", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 MB", 32 << 20),
            ("1.5g", 3 << 29),
            ("0.5t", 1 << 39),
            ("1p", 1 << 50),
            (".5k", 512),
        ];
        for (text, bytes) in cases {
            assert_eq!(ram_in_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(from_human_size("32kb"), Ok(32_000));
        for text in ["", "x", "-1", "32x", "32  kb", "1k ", "1e3", "k", "1.2.3"] {
            let error = ram_in_bytes(text).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid size: '{text}'"));
        }
    }
}
