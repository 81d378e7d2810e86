//! The daemon's messages as steps, and text that may be shown.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl View for Seen {
    fn begin(&mut self, step: &Step) {
        self.note(format!("{} {}", step.number, step.name));
    }

    fn line(&mut self, step: &Step, text: &str) {
        self.note(format!("{}: {text}", step.number));
    }

    fn end(&mut self, step: &Step, end: &End) {
        self.note(format!("{} {end:?}", step.number));
    }

    fn finish(&mut self, failed: bool) {
        self.note(format!("failed: {failed}"));
    }
}

fn progress() -> (Progress, Seen) {
    let seen = Seen::default();
    let progress = Progress {
        view: Box::new(seen.clone()),
        current: None,
        count: 0,
        at: (0, 0),
        stage: Stage::default(),
        names: Vec::new(),
    };
    (progress, seen)
}

#[test]
fn messages_become_steps() {
    let (mut progress, seen) = progress();
    for text in [
        "Step 1/4 : FROM busybox AS first",
        "\n",
        " ---> 0123456789ab\n",
        "Step 2/4 : RUN echo x",
        "\n",
        " ---> Running in 0123456789ab\n",
        "hal",
        "f\nStep 3/4 : no step, as a line had begun\n",
        "Step 9/9 : not the next one\n",
        " ---> not a mark\n",
        "Removing intermediate container 0123456789ab\n",
        " ---> Removed intermediate container 0123456789ab\n",
        " ---> 0123456789ab\n",
        "Step 3/4 : FROM scratch\n",
        "Step 4/4 : COPY --from=first /x /\n",
        " ---> Using cache\n",
        " ---> 0123456789ab\n",
        "Successfully built 0123456789ab\n",
        "Successfully tagged made:latest\n",
    ] {
        progress.take(&json!({ "stream": text }));
    }
    progress.done("sha256:0123");
    assert_eq!(
        *seen.0.lock().unwrap(),
        [
            "1 [first 1/4] FROM busybox AS first",
            "1 Done",
            "2 [first 2/4] RUN echo x",
            "2: half",
            "2: Step 3/4 : no step, as a line had begun",
            "2: Step 9/9 : not the next one",
            "2:  ---> not a mark",
            "2 Done",
            "3 [stage-1 3/4] FROM scratch",
            "3 Done",
            "4 [stage-1 4/4] COPY --from=first /x /",
            "4 Cached",
            "5 exporting to image",
            "5: writing image sha256:0123 done",
            "5: naming to made:latest done",
            "5 Done",
            "failed: false",
        ]
    );
}

#[test]
fn steps_of_several_platforms_say_which() {
    let (mut progress, seen) = progress();
    for text in [
        "Step 1/4 : [linux/amd64] FROM busybox\n",
        "Step 2/4 : [linux/amd64] RUN [ -e / ]\n",
        "Step 3/4 : [linux/amd64->linux/arm64] FROM --platform=$BUILDPLATFORM busybox AS x\n",
        "Step 4/4 : [linux/arm64] FROM busybox\n",
    ] {
        progress.take(&json!({ "stream": text }));
    }
    let seen = seen.0.lock().unwrap();
    let begun = seen.iter().filter(|line| line.contains(" ["));
    let expected = [
        "1 [linux/amd64 1/4] FROM busybox",
        "2 [linux/amd64 2/4] RUN [ -e / ]",
        "3 [linux/amd64->linux/arm64 x 3/4] FROM --platform=$BUILDPLATFORM busybox AS x",
        "4 [linux/arm64 stage-1 4/4] FROM busybox",
    ];
    assert!(begun.eq(expected.iter()), "{seen:?}");
}

#[test]
fn a_failure_ends_its_step() {
    let (mut progress, seen) = progress();
    progress.take(&json!({ "stream": "Step 1/1 : FROM far\n" }));
    progress.take(&json!({ "status": "Pulling from far", "id": "latest" }));
    progress
        .take(&json!({ "status": "Downloading", "id": "a", "progressDetail": { "current": 1 } }));
    progress.failed("no such image");
    let expected = [
        "1 [1/1] FROM far",
        "1: latest: Pulling from far",
        "1 Failed(\"no such image\")",
        "failed: true",
    ];
    assert_eq!(*seen.0.lock().unwrap(), expected);
}

#[test]
fn output_cannot_draw_over_the_screen() {
    assert_eq!(harmless("\u{1b}[2J\u{1b}[31mred\u{1b}[0m\u{7}"), "red");
    assert_eq!(harmless("10%\r50%\r100%"), "100%");
    assert_eq!(harmless("a\tb\u{1b}c"), "a\tbc");
}
