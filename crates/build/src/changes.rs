//! The instructions of `commit --change` and `import --change`: the language of Dockerfiles, as far as it changes a configuration.

use cais_types::api::ImageConfig;
use cais_types::{Error, Result};

use crate::dockerfile::scope::{Arguments, GlobalScope};
use crate::dockerfile::{self, Kind};
use crate::steps::metadata::{self, Settings};
use crate::steps::workdir::below;

/// What may be changed, as docker has it.
const CHANGES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies instructions in order.
///
/// # Errors
/// Invalid: `X is not a valid change command`, and whatever is wrong with an instruction.
pub fn apply_changes(mut config: ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    let read = dockerfile::reader::statements(&changes.join("\n"))?;
    for statement in &read.statements {
        let name = statement.text.split_whitespace().next().unwrap_or_default();
        if !CHANGES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let text = format!("{name} is not a valid change command");
            return Err(Error::invalid(text));
        }
    }
    let global = GlobalScope::new(read.directives.escape, &Arguments::default());
    let mut scope = global.stage(config.env.as_deref().unwrap_or_default());
    let mut settings = Settings {
        config: &mut config,
        author: &mut String::new(),
        scope: &mut scope,
        command_set: &mut false,
    };
    for statement in &read.statements {
        let instruction = dockerfile::instruction(statement, &read.directives)?;
        if let Kind::Workdir(path) = &instruction.kind {
            let path = settings.expand(path)?;
            settings.config.working_dir = below(&settings.config.working_dir, &path);
        } else {
            metadata::apply(&mut settings, &instruction.kind)?;
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(config: ImageConfig, lines: &[&str]) -> Result<ImageConfig> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        apply_changes(config, &lines)
    }

    #[test]
    fn instructions_fill_the_configuration_as_docker_does() {
        let lines = [
            "ENV A=1 B=\"two words\" C=x\\ y",
            "env A=2",
            "ENV OLD form of it",
            "ENV D=$A-$B",
            "CMD [\"sh\", \"-l\"]",
            "ENTRYPOINT run it",
            "EXPOSE 80 53/udp 7000-7001",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app/../data",
            "VOLUME /a /b",
            "LABEL k=v",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
            "ONBUILD RUN make",
        ];
        let made = apply(ImageConfig::default(), &lines).unwrap();
        let made = serde_json::to_value(made).unwrap();
        for (key, want) in [
            (
                "Env",
                json!([
                    "A=2",
                    "B=two words",
                    "C=x y",
                    "OLD=form of it",
                    "D=2-two words"
                ]),
            ),
            ("Cmd", json!(["sh", "-l"])),
            ("Entrypoint", json!(["/bin/sh", "-c", "run it"])),
            (
                "ExposedPorts",
                json!({"80/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}}),
            ),
            ("User", json!("1000:1000")),
            ("WorkingDir", json!("/srv/data")),
            ("Volumes", json!({"/a": {}, "/b": {}})),
            ("Labels", json!({"k": "v"})),
            ("StopSignal", json!("SIGINT")),
            ("OnBuild", json!(["RUN make"])),
        ] {
            assert_eq!(made[key], want, "{key}");
        }
        let check = &made["Healthcheck"];
        assert_eq!(check["Test"], json!(["CMD-SHELL", "curl localhost"]));
        assert_eq!(
            (&check["Interval"], &check["Retries"]),
            (&json!(90_000_000_000_i64), &json!(3))
        );
    }

    #[test]
    fn an_entrypoint_takes_the_command_of_before_away() {
        let before = ImageConfig {
            cmd: Some(vec!["old".to_owned()]),
            env: Some(vec!["A=b".to_owned()]),
            ..ImageConfig::default()
        };
        let made = apply(before.clone(), &["ENTRYPOINT [\"/run\"]", "LABEL from=$A"]).unwrap();
        assert_eq!(made.cmd, None);
        assert_eq!(made.labels.unwrap()["from"], "b");
        let kept = apply(before, &["CMD [\"new\"]", "ENTRYPOINT [\"/run\"]"]).unwrap();
        assert_eq!(kept.cmd, Some(vec!["new".to_owned()]));
    }

    #[test]
    fn what_changes_files_and_what_is_wrong_is_refused() {
        for (line, want) in [
            ("RUN make", "RUN is not a valid change command"),
            ("NOPE x", "NOPE is not a valid change command"),
            ("EXPOSE 99999", "Invalid containerPort: 99999"),
            ("ENV A", "ENV must have two arguments"),
            ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ] {
            let error = apply(ImageConfig::default(), &[line]).unwrap_err();
            assert!(
                error.message().ends_with(want),
                "{line}: {}",
                error.message()
            );
        }
    }
}
