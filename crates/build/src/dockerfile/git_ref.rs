//! Git repositories as contexts and sources of ADD: `https://host/repo.git#ref:subdir`, `git@host:repo`, and the query form.

/// A repository and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// Where it is cloned from, without query and fragment.
    pub remote: String,
    /// A branch, tag or commit; `refs/tags/` and `refs/heads/` for `tag=` and `branch=`.
    pub reference: Option<String>,
    pub subdir: Option<String>,
    /// The commit it must be, or its first digits.
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub submodules: Option<bool>,
    pub mtime: Option<Mtime>,
    pub fetch_by_commit: Option<bool>,
}

/// The times that files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtime {
    Checkout,
    Commit,
}

impl GitRef {
    /// Reads a text; none when it names no repository.
    ///
    /// # Errors
    /// A query that does not fit, a reference that git would take for an option, a directory outside the repository.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (text, fragment) = match text.split_once('#') {
            Some((text, fragment)) => (text, fragment),
            None => (text, ""),
        };
        let (url, query) = match text.split_once('?') {
            Some((url, query)) => (url, query),
            None => (text, ""),
        };
        let Some(remote) = remote(url) else {
            return Ok(None);
        };
        let mut found = Self {
            remote,
            ..Self::default()
        };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        found.reference = some(reference);
        found.subdir = some(subdir);
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            found.query(key, &decoded(value))?;
        }
        found.validate()?;
        Ok(Some(found))
    }

    fn query(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ref" => return self.set_reference(value.to_owned()),
            "tag" => return self.set_reference(format!("refs/tags/{value}")),
            "branch" => return self.set_reference(format!("refs/heads/{value}")),
            "subdir" if self.subdir.is_some() => return Err("subdir conflicts".to_owned()),
            "subdir" => self.subdir = some(value),
            "checksum" | "commit" => {
                if self.checksum.as_deref().is_some_and(|known| known != value) {
                    return Err("checksum conflicts".to_owned());
                }
                self.checksum = some(value);
            }
            "keep-git-dir" => self.keep_git_dir = Some(boolean(key, value)?),
            "submodules" => self.submodules = Some(boolean(key, value)?),
            "fetch-by-commit" => self.fetch_by_commit = Some(boolean(key, value)?),
            "mtime" => {
                self.mtime = Some(match value {
                    "checkout" => Mtime::Checkout,
                    "commit" => Mtime::Commit,
                    _ => return Err(format!("invalid mtime value: {value:?}")),
                });
            }
            _ => return Err(format!("unexpected query {key:?}")),
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String) -> Result<(), String> {
        if self
            .reference
            .as_ref()
            .is_some_and(|known| *known != reference)
        {
            return Err("ref conflicts".to_owned());
        }
        self.reference = Some(reference);
        Ok(())
    }

    fn validate(&self) -> Result<(), String> {
        let reference = self.reference.as_deref().unwrap_or("");
        if reference.starts_with('-') || self.remote.starts_with('-') {
            return Err(format!("invalid git reference {reference:?}"));
        }
        let subdir = self.subdir.as_deref().unwrap_or("");
        if subdir.split('/').any(|part| part == "..") || subdir.contains('\0') {
            return Err(format!(
                "invalid git subdirectory {subdir:?}: outside of the repository"
            ));
        }
        let checksum = self.checksum.as_deref().unwrap_or("");
        if !checksum.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("invalid git checksum {checksum:?}"));
        }
        Ok(())
    }
}

fn remote(url: &str) -> Option<String> {
    if let Some(rest) = url.strip_prefix("github.com/") {
        return (!rest.is_empty()).then(|| format!("https://{url}"));
    }
    for scheme in ["git://", "ssh://", "git+ssh://"] {
        if url.len() > scheme.len() && url.starts_with(scheme) {
            return Some(url.to_owned());
        }
    }
    let web = url.starts_with("http://") || url.starts_with("https://");
    if web {
        return url
            .trim_end_matches('/')
            .ends_with(".git")
            .then(|| url.to_owned());
    }
    // user@host:path, as scp writes it.
    let (user, rest) = url.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let word = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    (word(user, b"-_") && word(host, b"-.") && !path.is_empty()).then(|| url.to_owned())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid {key} value: {value:?}")),
    }
}

/// `%41` as `A`; what is no such code stays.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
