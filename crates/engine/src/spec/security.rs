//! `--security-opt`, and the seccomp filter that follows from it.

use cais_runtime::capabilities::Capabilities;
use cais_runtime::seccomp::{default_profile, parse_profile};
use cais_runtime::spec::LinuxSeccomp;
use cais_types::{Error, Result};

/// Which seccomp filter a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Seccomp {
    #[default]
    Default,
    Builtin,
    Unconfined,
    /// The JSON text of a profile in Docker's format.
    Profile(String),
}

/// Parsed security options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    pub no_new_privileges: bool,
    /// `writable-cgroups=true`.
    pub writable_cgroups: bool,
    seccomp: Seccomp,
}

impl Security {
    /// Reads the options.
    ///
    /// # Errors
    /// `invalid --security-opt 1: "x"`, and `invalid --security-opt 2: "x=y"` for an unknown key, as Docker numbers them.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut security = Self::default();
        for option in options {
            if option == "no-new-privileges" {
                security.no_new_privileges = true;
                continue;
            }
            if option == "disable" {
                continue;
            }
            let pair = option.split_once('=').or_else(|| option.split_once(':'));
            let Some((key, value)) = pair else {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 1: \"{option}\""
                )));
            };
            security.set(option, key, value)?;
        }
        Ok(security)
    }

    fn set(&mut self, option: &str, key: &str, value: &str) -> Result<()> {
        let truth = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Error::invalid(format!(
                "invalid --security-opt 2: \"{option}\""
            ))),
        };
        match key {
            "no-new-privileges" => self.no_new_privileges = truth()?,
            "writable-cgroups" => self.writable_cgroups = truth()?,
            "seccomp" => {
                self.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" => Seccomp::Builtin,
                    profile => Seccomp::Profile(profile.to_owned()),
                }
            }
            // Without SELinux labels mean nothing; an AppArmor profile can be left out, but not faked.
            "label" => {}
            "apparmor" if matches!(value, "unconfined" | "docker-default" | "") => {}
            "apparmor" => {
                return Err(Error::unsupported(
                    "AppArmor is not enabled on the system so the apparmor parameter cannot be used",
                ));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: \"{option}\""
                )));
            }
        }
        Ok(())
    }

    /// The filter; a privileged container has none unless it asks for one.
    ///
    /// # Errors
    /// `Decoding seccomp profile failed: ...`.
    pub fn seccomp(
        &self,
        privileged: bool,
        bounding: Capabilities,
    ) -> Result<Option<LinuxSeccomp>> {
        match &self.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default if privileged => Ok(None),
            Seccomp::Default | Seccomp::Builtin => Ok(Some(default_profile(bounding))),
            Seccomp::Profile(text) => match parse_profile(text.as_bytes(), bounding) {
                Ok(profile) => Ok(Some(profile)),
                Err(error) => {
                    let text = format!("Decoding seccomp profile failed: {error}");
                    Err(Error::invalid(text).with_source(error))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_odd_ones_refused() {
        let options = [
            "no-new-privileges:true",
            "seccomp=unconfined",
            "label=disable",
        ];
        let security = Security::parse(&options.map(str::to_owned)).unwrap();
        assert!(security.no_new_privileges);
        assert!(
            security
                .seccomp(false, Capabilities::ALL)
                .unwrap()
                .is_none()
        );
        for (bad, text) in [
            ("what", "invalid --security-opt 1: \"what\""),
            ("what=x", "invalid --security-opt 2: \"what=x\""),
            (
                "no-new-privileges=maybe",
                "invalid --security-opt 2: \"no-new-privileges=maybe\"",
            ),
        ] {
            let error = Security::parse(&[bad.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let profile = Security::parse(&["seccomp={".to_owned()]).unwrap();
        let error = profile.seccomp(false, Capabilities::ALL).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Decoding seccomp profile failed")
        );
    }

    #[test]
    fn only_privileged_containers_go_without_a_filter() {
        let security = Security::default();
        assert!(security.seccomp(true, Capabilities::ALL).unwrap().is_none());
        let filter = security
            .seccomp(false, Capabilities::NONE)
            .unwrap()
            .unwrap();
        assert_eq!(filter.default_action, "SCMP_ACT_ERRNO");
    }
}
