//! Who a process runs as: `uid|name[:gid|group]` looked up in the container's own passwd and group files, never in the
//! host's and never through NSS.

use cais_types::{Error, Result};

/// Largest id Docker takes.
const MAX_ID: u32 = i32::MAX as u32;

/// The texts of the container's account files; empty when a file is missing.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
}

/// The ids and home of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups: the primary one, those of the group file in its order, those asked for; no duplicates.
    pub groups: Vec<u32>,
    /// `/` when the user has no entry.
    pub home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// Finds the identity for `user` (empty means uid 0) with `extra` groups by name or number.
    ///
    /// # Errors
    /// Docker's texts: `unable to find user x: no matching entries in passwd file`,
    /// `unable to find group x: no matching entries in group file`,
    /// `uids and gids must be in range 0-2147483647`.
    pub fn identify(&self, user: &str, extra: &[String]) -> Result<Identity> {
        let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
        let user_number = number(user_part)?;
        let entry = self.find_user(user_part, user_number);
        let (uid, primary, home, name) = match (&entry, user_number) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.home, entry.name),
            (None, Some(uid)) => (uid, 0, "", ""),
            (None, None) if user_part.is_empty() => (0, 0, "", ""),
            (None, None) => {
                return Err(Error::invalid(format!(
                    "unable to find user {user_part}: no matching entries in passwd file"
                )));
            }
        };
        let (gid, memberships) = if group_part.is_empty() {
            (primary, self.memberships(name))
        } else {
            (self.group_id(group_part)?, Vec::new())
        };
        // A program that leaves its primary group must not escape from what is denied to it (CVE-2022-36109).
        let mut groups = vec![gid];
        groups.extend(memberships.into_iter().filter(|group| *group != gid));
        for group in extra {
            let id = self.group_id(group)?;
            if !groups.contains(&id) {
                groups.push(id);
            }
        }
        let home = if home.is_empty() { "/" } else { home };
        Ok(Identity {
            uid,
            gid,
            groups,
            home: home.to_owned(),
        })
    }

    /// A number is matched with ids only, never with a user whose name is that number (CVE-2016-3697).
    fn find_user(&self, text: &str, uid: Option<u32>) -> Option<Passwd<'_>> {
        let uid = if text.is_empty() { Some(0) } else { uid };
        passwd_entries(&self.passwd).find(|entry| match uid {
            Some(uid) => entry.uid == uid,
            None => entry.name == text,
        })
    }

    fn memberships(&self, name: &str) -> Vec<u32> {
        let mut groups = Vec::new();
        if name.is_empty() {
            return groups;
        }
        for group in group_entries(&self.group) {
            let member = group.members.split(',').any(|member| member == name);
            if member && !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        groups
    }

    fn group_id(&self, text: &str) -> Result<u32> {
        if let Some(gid) = number(text)? {
            return Ok(gid);
        }
        group_entries(&self.group)
            .find(|group| group.name == text)
            .map(|group| group.gid)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "unable to find group {text}: no matching entries in group file"
                ))
            })
    }
}

/// Reads a decimal id; `None` when the text is a name.
fn number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(Error::invalid(
            "uids and gids must be in range 0-2147483647",
        )),
    }
}

fn passwd_entries(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or("");
        Some(Passwd {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or("");
        Some(Group { name, gid, members })
    })
}

/// An id in an account file; entries with ids outside the range are passed over.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# note\nweb:x:33:34::/var/www:/bin/false\n\
                     1000:x:0:0::/evil:/bin/sh\nbig:x:4294967296:0::/:\n"
                .into(),
            group: "root:x:0:\nwheel:x:10:root,web\nwww:x:34:\nlogs:x:44:web\n".into(),
        }
    }

    fn identify(user: &str) -> Identity {
        accounts().identify(user, &[]).unwrap()
    }

    #[test]
    fn names_numbers_and_groups_are_looked_up() {
        let root = identify("");
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.groups, [0, 10]);
        let web = identify("web");
        assert_eq!((web.uid, web.gid, web.groups), (33, 34, vec![34, 10, 44]));
        let mixed = identify("33:wheel");
        assert_eq!((mixed.uid, mixed.gid, mixed.groups), (33, 10, vec![10]));
        let unknown = identify("7777");
        assert_eq!(
            (unknown.uid, unknown.gid, unknown.home.as_str()),
            (7777, 0, "/")
        );
    }

    #[test]
    fn a_number_is_never_taken_for_a_name() {
        assert_eq!(identify("1000").uid, 1000);
    }

    #[test]
    fn ids_do_not_wrap() {
        for bad in [
            "4294967296",
            "-1",
            "2147483648",
            "0:99999999999",
            "18446744073709551616",
        ] {
            let text = accounts().identify(bad, &[]).unwrap_err().to_string();
            assert_eq!(text, "uids and gids must be in range 0-2147483647", "{bad}");
        }
    }

    #[test]
    fn missing_entries_are_errors_in_dockers_words() {
        let error = accounts().identify("nobody", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        let error = accounts().identify("big", &[]).unwrap_err();
        assert!(error.to_string().starts_with("unable to find user big"));
        let error = accounts().identify("web:none", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to find group none: no matching entries in group file"
        );
        let extra = accounts()
            .identify("web", &["logs".into(), "5".into()])
            .unwrap();
        assert_eq!(extra.groups, [34, 10, 44, 5]);
    }
}
