//! What a container takes over from its image, as `docker run`'s table of Entrypoint and Cmd and moby's
//! `runconfig.Merge` have it.

use cais_types::api::{ContainerConfig, HealthConfig};
use cais_types::{Error, Result};

/// Fills a user's configuration from the image's.
///
/// # Errors
/// `no command specified`.
pub fn merge(user: &mut ContainerConfig, image: &ContainerConfig) -> Result<()> {
    inherit(user, image);
    if is_empty(user.entrypoint.as_ref()) && is_empty(user.cmd.as_ref()) {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

/// Fills what `user` leaves open.
pub fn inherit(user: &mut ContainerConfig, image: &ContainerConfig) {
    take_text(&mut user.user, &image.user);
    take_text(&mut user.working_dir, &image.working_dir);
    take_text(&mut user.stop_signal, &image.stop_signal);
    for (port, empty) in &image.exposed_ports {
        user.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    for (key, value) in &image.labels {
        user.labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    if let Some(volumes) = &image.volumes {
        let mine = user.volumes.get_or_insert_default();
        for (path, empty) in volumes {
            mine.entry(path.clone()).or_insert(*empty);
        }
    }
    merge_env(&mut user.env, &image.env);
    merge_health(&mut user.healthcheck, image.healthcheck.as_ref());
    merge_command(user, image);
}

/// Program and arguments of a merged configuration.
pub fn command(config: &ContainerConfig) -> (String, Vec<String>) {
    let entrypoint = config.entrypoint.iter().flatten();
    let mut words = entrypoint.chain(config.cmd.iter().flatten()).cloned();
    let path = words.next().unwrap_or_default();
    (path, words.collect())
}

fn is_empty(list: Option<&Vec<String>>) -> bool {
    list.is_none_or(Vec::is_empty)
}

fn take_text(mine: &mut String, image: &str) {
    if mine.is_empty() {
        image.clone_into(mine);
    }
}

fn merge_command(user: &mut ContainerConfig, image: &ContainerConfig) {
    if is_empty(user.entrypoint.as_ref()) {
        if is_empty(user.cmd.as_ref()) {
            user.cmd.clone_from(&image.cmd);
            user.args_escaped = image.args_escaped;
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // `--entrypoint ""` takes the image's entrypoint away.
    if user
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.len() == 1 && words[0].is_empty())
    {
        user.entrypoint = None;
    }
}

/// The user's variables come first and win.
fn merge_env(user: &mut Vec<String>, image: &[String]) {
    let own = user.len();
    for entry in image {
        let key = env_key(entry);
        if !user[..own].iter().any(|mine| env_key(mine) == key) {
            user.push(entry.clone());
        }
    }
}

/// The name of `NAME=value`.
pub fn env_key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn merge_health(user: &mut Option<HealthConfig>, image: Option<&HealthConfig>) {
    let Some(image) = image else { return };
    let Some(mine) = user else {
        *user = Some(image.clone());
        return;
    };
    if mine.test.is_empty() {
        mine.test.clone_from(&image.test);
    }
    for (value, inherited) in [
        (&mut mine.interval, image.interval),
        (&mut mine.timeout, image.timeout),
        (&mut mine.start_period, image.start_period),
        (&mut mine.start_interval, image.start_interval),
        (&mut mine.retries, image.retries),
    ] {
        if *value == 0 {
            *value = inherited;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cais_types::api::Empty;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn image(entrypoint: Option<&str>, cmd: Option<&str>) -> ContainerConfig {
        ContainerConfig {
            entrypoint: entrypoint.and_then(words),
            cmd: cmd.and_then(words),
            ..ContainerConfig::default()
        }
    }

    fn run(image: &ContainerConfig, entrypoint: Option<&str>, cmd: Option<&str>) -> Vec<String> {
        let mut user = self::image(None, cmd);
        user.entrypoint = entrypoint.map(|text| vec![text.to_owned()]);
        merge(&mut user, image).unwrap();
        let (path, args) = command(&user);
        std::iter::once(path).chain(args).collect()
    }

    #[test]
    fn entrypoint_and_cmd_combine_as_in_dockers_table() {
        let both = image(Some("/ep a"), Some("b c"));
        assert_eq!(run(&both, None, None), ["/ep", "a", "b", "c"]);
        assert_eq!(run(&both, None, Some("x")), ["/ep", "a", "x"]);
        assert_eq!(run(&both, Some("/new"), None), ["/new"]);
        assert_eq!(run(&both, Some("/new"), Some("x")), ["/new", "x"]);
        assert_eq!(run(&both, Some(""), Some("x")), ["x"]);
        let only = image(None, Some("sh"));
        assert_eq!(run(&only, None, None), ["sh"]);
        let error = merge(&mut ContainerConfig::default(), &image(None, None)).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }

    #[test]
    fn user_settings_win_and_sets_are_joined() {
        let mut from = image(None, Some("sh"));
        from.env = vec!["PATH=/image".into(), "LANG=C".into()];
        from.user = "web".into();
        from.labels.insert("a".into(), "image".into());
        from.exposed_ports.insert("80/tcp".into(), Empty {});
        from.volumes = Some([("/data".to_owned(), Empty {})].into());
        from.healthcheck = Some(HealthConfig {
            test: vec!["CMD".into(), "true".into()],
            retries: 5,
            ..HealthConfig::default()
        });
        let mut user = ContainerConfig {
            env: vec!["PATH=/mine".into(), "X=1".into()],
            labels: [("a".to_owned(), "mine".to_owned())].into(),
            healthcheck: Some(HealthConfig {
                interval: 7,
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        };
        merge(&mut user, &from).unwrap();
        assert_eq!(user.env, ["PATH=/mine", "X=1", "LANG=C"]);
        assert_eq!(user.user, "web");
        assert_eq!(user.labels["a"], "mine");
        assert!(user.exposed_ports.contains_key("80/tcp"));
        assert!(user.volumes.unwrap().contains_key("/data"));
        let health = user.healthcheck.unwrap();
        assert_eq!(
            (health.interval, health.retries, health.test.len()),
            (7, 5, 2)
        );
    }
}
