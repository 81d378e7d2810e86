//! The table of rules.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub description: &'static str,
    /// Off unless `experimental=` names it.
    pub experimental: bool,
    /// The last part of its page's address; empty when it has no page.
    page: &'static str,
}

const fn on(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        experimental: false,
        page,
    }
}

/// Every rule.
pub static RULES: [Rule; 22] = [
    on(
        "StageNameCasing",
        "stage-name-casing",
        "Stage names should be lowercase",
    ),
    on(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    on(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    on(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    on(
        "DuplicateStageName",
        "duplicate-stage-name",
        "Stage names should be unique",
    ),
    on(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    on(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    on(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    on(
        "UndefinedArgInFrom",
        "undefined-arg-in-from",
        "FROM command must use declared ARGs",
    ),
    on(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    on(
        "UndefinedVar",
        "undefined-var",
        "Variables should be defined before their use",
    ),
    on(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    on(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    on(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    on(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    on(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    on(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    on(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    on(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        experimental: true,
        page: "invalid-definition-description",
    },
    on(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    on(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
];

/// The rule of this name. The name must be one of the table.
pub fn rule(name: &str) -> &'static Rule {
    find(name).unwrap_or(&RULES[0])
}

/// The rule of this name in any case, none when there is no such rule.
pub(super) fn find(name: &str) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| rule.name.eq_ignore_ascii_case(name))
}

impl Rule {
    /// The page that explains it.
    pub fn url(&self) -> Option<String> {
        let page = self.page;
        (!page.is_empty()).then(|| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }
}
