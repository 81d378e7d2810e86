//! The options of a mount (mount(8), and those that runc adds).

use cais_sys::mount::{Attributes, attribute};

/// The options of a mount, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    pub own: Attributes,
    pub recursive: Attributes,
    pub bind: bool,
    pub bind_recursive: bool,
    pub propagation: u64,
    pub propagation_recursive: bool,
    /// The mount that is at the destination gets other attributes.
    pub remount: bool,
    /// Contents of the covered directory are copied into a tmpfs.
    pub copy_up: bool,
    pub id_map: Option<bool>,
    pub data: Vec<(&'a str, Option<&'a str>)>,
}

/// Option, attribute, whether it sets or clears.
const FLAGS: &[(&str, u64, bool)] = &[
    ("ro", attribute::READ_ONLY, true),
    ("rw", attribute::READ_ONLY, false),
    ("nosuid", attribute::NO_SUID, true),
    ("suid", attribute::NO_SUID, false),
    ("nodev", attribute::NO_DEV, true),
    ("dev", attribute::NO_DEV, false),
    ("noexec", attribute::NO_EXEC, true),
    ("exec", attribute::NO_EXEC, false),
    ("noatime", attribute::NO_ACCESS_TIME, true),
    ("atime", attribute::NO_ACCESS_TIME, false),
    ("relatime", attribute::RELATIVE_ACCESS_TIME, true),
    ("norelatime", attribute::RELATIVE_ACCESS_TIME, false),
    ("strictatime", attribute::STRICT_ACCESS_TIME, true),
    ("nostrictatime", attribute::STRICT_ACCESS_TIME, false),
    ("nodiratime", attribute::NO_DIRECTORY_ACCESS_TIME, true),
    ("diratime", attribute::NO_DIRECTORY_ACCESS_TIME, false),
    ("nosymfollow", attribute::NO_SYMLINK_FOLLOW, true),
    ("symfollow", attribute::NO_SYMLINK_FOLLOW, false),
];

const PROPAGATION: &[(&str, u64)] = &[
    ("shared", attribute::SHARED),
    ("slave", attribute::SLAVE),
    ("private", attribute::PRIVATE),
    ("unbindable", attribute::UNBINDABLE),
];

/// Options of the mount as a whole that the file system itself must get.
const SUPER_FLAGS: &[&str] = &["sync", "dirsync", "mand", "lazytime"];

/// Options that mean nothing or the usual; `silent` and `iversion` are no flags of fsconfig(2) any more.
const NEUTRAL: &[&str] = &[
    "defaults",
    "async",
    "loud",
    "nomand",
    "nolazytime",
    "noiversion",
    "silent",
    "iversion",
];

/// All options that are known here and not the file system's own, in order.
pub fn known_options() -> Vec<String> {
    let plain = FLAGS.iter().map(|(name, _, _)| *name);
    let pairs = plain.chain(PROPAGATION.iter().map(|(name, _)| *name));
    let single = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];
    let single = single.iter().chain(NEUTRAL).chain(SUPER_FLAGS).copied();
    let mut names: Vec<String> = pairs
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(single.map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

impl<'a> Options<'a> {
    /// Takes every option for what it is; what is known to nobody else is the file system's.
    pub fn parse(options: &'a [String]) -> Self {
        let mut parsed = Self::default();
        for option in options.iter().flat_map(|option| option.split(',')) {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &'a str) {
        if let Some((_, bits, set)) = FLAGS.iter().find(|(name, _, _)| *name == option) {
            apply(&mut self.own, *bits, *set);
            return;
        }
        let recursive = option.strip_prefix('r').unwrap_or_default();
        if let Some((_, bits, set)) = FLAGS.iter().find(|(name, _, _)| *name == recursive) {
            apply(&mut self.recursive, *bits, *set);
            return;
        }
        for (name, bits) in PROPAGATION {
            if *name == option || *name == recursive {
                self.propagation = *bits;
                self.propagation_recursive = *name == recursive;
                return;
            }
        }
        match option {
            "" => {}
            other if NEUTRAL.contains(&other) => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.bind_recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            other if SUPER_FLAGS.contains(&other) => self.data.push((other, None)),
            other => self.data.push(
                other
                    .split_once('=')
                    .map_or((other, None), |(key, value)| (key, Some(value))),
            ),
        }
    }
}

fn apply(attributes: &mut Attributes, bits: u64, set: bool) {
    let time = bits & attribute::ACCESS_TIME != 0 || bits == attribute::RELATIVE_ACCESS_TIME;
    if time {
        // The access time bits are one number, which is cleared as a whole.
        attributes.clear |= attribute::ACCESS_TIME;
        attributes.set &= !attribute::ACCESS_TIME;
    }
    if set {
        attributes.set |= bits;
        attributes.clear &= if time { u64::MAX } else { !bits };
    } else if !time {
        attributes.clear |= bits;
        attributes.set &= !bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let words: Vec<String> = [
            "rbind",
            "ro,nosuid",
            "rw",
            "rslave",
            "rnoexec",
            "size=64m",
            "noatime",
            "mode=755",
        ]
        .map(str::to_owned)
        .into();
        let options = Options::parse(&words);
        assert!(options.bind && options.bind_recursive);
        assert_eq!(
            options.own.set,
            attribute::NO_SUID | attribute::NO_ACCESS_TIME
        );
        assert_eq!(
            options.own.clear,
            attribute::READ_ONLY | attribute::ACCESS_TIME
        );
        assert_eq!(options.recursive.set, attribute::NO_EXEC);
        assert_eq!(
            (options.propagation, options.propagation_recursive),
            (attribute::SLAVE, true)
        );
        assert_eq!(options.data, [("size", Some("64m")), ("mode", Some("755"))]);
    }
}
