//! Environment variables and labels, given one by one or in files.

use std::collections::BTreeMap;

use super::Result;

/// Checks one `--env`.
///
/// # Errors
/// It has no name.
pub fn check(entry: &str) -> Result<()> {
    if entry.is_empty() || entry.starts_with('=') {
        return Err(format!("invalid environment variable: {entry}"));
    }
    Ok(())
}

/// Checks one `--label`.
///
/// # Errors
/// It has no name.
pub fn check_label(entry: &str) -> Result<()> {
    if entry.is_empty() || entry.starts_with('=') {
        return Err(format!("invalid label '{entry}': empty name"));
    }
    Ok(())
}

/// The environment of files, then of flags. A bare name takes the value of this process, or is left out of a file's.
///
/// # Errors
/// A file that cannot be read or has a bad line.
pub fn environment(files: &[String], entries: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in read_lines(file, "env file")? {
            if line.contains('=') {
                all.push(line);
            } else if let Ok(value) = std::env::var(&line) {
                all.push(format!("{line}={value}"));
            }
        }
    }
    for entry in entries {
        match std::env::var(entry) {
            Ok(value) if !entry.contains('=') => all.push(format!("{entry}={value}")),
            _ => all.push(entry.clone()),
        }
    }
    Ok(all)
}

/// Labels of files, then of flags; the last one of a name wins.
///
/// # Errors
/// A file that cannot be read or has a bad line.
pub fn labels(files: &[String], entries: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read_lines(file, "label file")?);
    }
    all.extend(entries.iter().cloned());
    Ok(pairs(&all))
}

/// `key=value` texts as a map; a bare key has an empty value.
pub fn pairs(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (entry.clone(), String::new()),
        })
        .collect()
}

/// Lines of a file without comments, blank lines and leading blanks.
fn read_lines(path: &str, what: &str) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("invalid {what} ({path}): invalid utf8 bytes"))?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!(
                "invalid {what} ({path}): no variable name on line '{line}'"
            ));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!(
                "invalid {what} ({path}): variable '{name}' contains whitespaces"
            ));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// The reason of a failed open, as Go names it.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn env_files_have_comments_and_bare_names_but_no_quotes() {
        let (_keep, path) = file(
            "\u{feff}# comment\nA=1\n\n  B=two words \nC=\"quoted\"\nPATH\nNOT_SET_ANYWHERE\nD=#x\n",
        );
        let path_value = std::env::var("PATH").unwrap();
        assert_eq!(
            environment(&[path], &["E=x".into(), "NOT_SET_ANYWHERE".into()]).unwrap(),
            [
                "A=1".to_owned(),
                "B=two words ".into(),
                "C=\"quoted\"".into(),
                format!("PATH={path_value}"),
                "D=#x".into(),
                "E=x".into(),
                "NOT_SET_ANYWHERE".into(),
            ]
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let (_keep, path) = file("C D=3\n");
        assert_eq!(
            environment(std::slice::from_ref(&path), &[]).unwrap_err(),
            format!("invalid env file ({path}): variable 'C D' contains whitespaces")
        );
        let (_keep, path) = file("=1\n");
        assert_eq!(
            environment(std::slice::from_ref(&path), &[]).unwrap_err(),
            format!("invalid env file ({path}): no variable name on line '=1'")
        );
        assert_eq!(
            environment(&["/nonexist".into()], &[]).unwrap_err(),
            "open /nonexist: no such file or directory"
        );
    }
}
