//! A file of names and bcrypt hashes, as `htpasswd -B` writes it. An unknown name costs as much as a wrong password, so that
//! time tells nothing; a name and password that were right are remembered (as a keyed hash), because clients send them with
//! every request and bcrypt is slow on purpose.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cais_types::{Error, Result};
use tokio::sync::Semaphore;

/// Passwords that are checked at the same time.
const CHECKS: usize = 4;
/// Names that are remembered.
const REMEMBERED: usize = 10_000;
/// bcrypt reads no more than this of a password.
const PASSWORD_MAX: usize = 72;

/// See the module.
pub struct Htpasswd {
    file: PathBuf,
    users: Arc<RwLock<Users>>,
    checks: Semaphore,
    right: Mutex<HashMap<String, ring::hmac::Tag>>,
    key: ring::hmac::Key,
}

struct Users {
    hashes: HashMap<String, String>,
    /// Checked for unknown names.
    dummy: String,
}

impl Htpasswd {
    /// Reads a file.
    ///
    /// # Errors
    /// Invalid: no file, a line that is none, a hash that is not bcrypt.
    pub fn open(file: &Path) -> Result<Self> {
        let users = Users::read(file)?;
        let random = ring::rand::SystemRandom::new();
        let key = ring::hmac::Key::generate(ring::hmac::HMAC_SHA256, &random)
            .map_err(|_| Error::internal("no random numbers"))?;
        Ok(Self {
            file: file.to_owned(),
            users: Arc::new(RwLock::new(users)),
            checks: Semaphore::new(CHECKS),
            right: Mutex::default(),
            key,
        })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`Htpasswd::open`]; the names that were read before stay.
    pub fn reload(&self) -> Result<()> {
        let users = Users::read(&self.file)?;
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        self.right
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(())
    }

    /// Whether the password is that of the name.
    pub async fn verify(&self, user: String, password: String) -> bool {
        let proof = format!("{user}\0{password}");
        if self.remembers(&user, &proof) {
            return true;
        }
        let Ok(_turn) = self.checks.acquire().await else {
            return false;
        };
        let (users, name) = (Arc::clone(&self.users), user.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let users = users.read().unwrap_or_else(PoisonError::into_inner);
            let known = users.hashes.get(&name).cloned();
            let hash = known.clone().unwrap_or_else(|| users.dummy.clone());
            drop(users);
            let fits = password.len() <= PASSWORD_MAX && !password.contains('\0');
            let right = bcrypt::verify(if fits { &password } else { "" }, &hash).unwrap_or(false);
            known.filter(|_| right && fits)
        });
        let Ok(Some(hash)) = checked.await else {
            return false;
        };
        self.remember(user, &proof, &hash);
        true
    }

    fn remembers(&self, user: &str, proof: &str) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(user).is_some_and(|tag| {
            ring::hmac::verify(&self.key, proof.as_bytes(), tag.as_ref()).is_ok()
        })
    }

    /// Remembers only what still is in the file.
    fn remember(&self, user: String, proof: &str, hash: &str) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        if users.hashes.get(&user).is_some_and(|now| now == hash) && right.len() < REMEMBERED {
            right.insert(user, ring::hmac::sign(&self.key, proof.as_bytes()));
        }
    }
}

impl Users {
    fn read(file: &Path) -> Result<Self> {
        let bad = |what: String| Error::invalid(format!("htpasswd {}: {what}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = number + 1;
            let (user, hash) = line
                .split_once(':')
                .ok_or_else(|| bad(format!("line {number} is not <name>:<hash>")))?;
            if cost(hash).is_none() {
                return Err(bad(format!(
                    "line {number}: only bcrypt hashes are supported (htpasswd -B)"
                )));
            }
            hashes.insert(user.to_owned(), hash.to_owned());
        }
        let costs = hashes.values().filter_map(|hash| cost(hash));
        let dummy = bcrypt::hash("", costs.max().unwrap_or(bcrypt::DEFAULT_COST))
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self { hashes, dummy })
    }
}

/// The cost of a bcrypt hash.
fn cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|prefix| hash.strip_prefix(prefix))?;
    let (cost, salted) = rest.split_once('$')?;
    (salted.len() == 53).then(|| cost.parse().ok()).flatten()
}
