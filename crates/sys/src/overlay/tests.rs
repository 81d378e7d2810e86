//! Stacks of layers with awkward names, by both ways of giving them to the kernel.

use super::*;

/// A tmpfs for the layers: the machine's own /tmp may be an overlay, which cannot be an upper layer.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("none", directory.path(), "tmpfs", flags, None).unwrap();
        Self(directory)
    }

    /// Layers that each have a file `who` with their number and a file of their own.
    fn layers(&self, number: usize) -> Vec<PathBuf> {
        let name = |number| match number {
            0 => "top:,\\".to_owned(),
            1 => "long".repeat(60),
            _ => format!("layer{number}"),
        };
        let layers: Vec<PathBuf> = (0..number)
            .map(|number| self.0.path().join(name(number)))
            .collect();
        for (number, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join("who"), number.to_string()).unwrap();
            std::fs::write(layer.join(format!("only{number}")), "x").unwrap();
        }
        layers
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(self.0.path(), flags).unwrap();
    }
}

type Way = fn(&[PathBuf], Option<Upper<'_>>) -> io::Result<OwnedFd>;

const WAYS: [(&str, Way); 2] = [("any", mount), ("list", list)];

fn layer<'a>(files: &'a Path, work: &'a Path, durable: bool) -> Upper<'a> {
    Upper {
        files,
        work,
        durable,
    }
}

#[test]
fn what_is_not_durable_can_be_mounted_again() {
    for (way, mount) in WAYS {
        for number in [1, 100] {
            let scratch = Scratch::new();
            let lower = scratch.layers(number);
            let (upper, work) = (scratch.directory("upper"), scratch.directory("work"));
            let marked = || work.join("work/incompat/volatile").exists();
            for durable in [true, false, false, true] {
                let layer = layer(&upper, &work, durable);
                layer.unmark();
                let root = mount(&lower, Some(layer))
                    .unwrap_or_else(|error| panic!("{number} layers, {way}: {error}"));
                assert_eq!(marked(), !durable, "{number} layers, {way}");
                let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
                std::fs::write(path.join("new"), "y").unwrap();
            }
        }
    }
}

/// The two ways in one test, which holds the process's mounts still.
#[test]
fn layers_are_stacked_whatever_their_number_names_and_lengths() {
    for (way, mount) in WAYS {
        for number in [1, 3, 30, 100] {
            let scratch = Scratch::new();
            let lower = scratch.layers(number);
            let (upper, work) = (scratch.directory("up,per"), scratch.directory("work"));
            let layer = layer(&upper, &work, number % 2 == 0);
            let root = mount(&lower, Some(layer)).unwrap_or_else(|error| {
                panic!("{number} layers, {way}: {error}");
            });
            let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
            std::fs::write(path.join("new"), "y").unwrap();
            assert_eq!(std::fs::read_to_string(path.join("who")).unwrap(), "0");
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), number + 2);
            assert!(upper.join("new").exists());
        }
    }
}

#[test]
fn mounts_without_an_upper_layer_are_read_only() {
    for (way, mount) in WAYS {
        for number in [2, 30, 100] {
            let scratch = Scratch::new();
            let root = mount(&scratch.layers(number), None)
                .unwrap_or_else(|error| panic!("{number} layers, {way}: {error}"));
            let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), number + 1);
            let error = std::fs::write(path.join("new"), "y").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
    }
}

#[test]
fn a_mount_can_be_attached_and_leaves_nothing_in_the_mount_table() {
    let scratch = Scratch::new();
    let (upper, work) = (scratch.directory("upper"), scratch.directory("work"));
    let place = scratch.directory("place");
    let root = list(&scratch.layers(100), Some(layer(&upper, &work, true))).unwrap();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = scratch.0.path().to_str().unwrap().to_owned();
    let ours = |text: &str| text.lines().filter(|line| line.contains(&below)).count();
    assert_eq!(ours(&mounts()), 1);
    crate::mount::attach(root.as_fd(), open(&place).unwrap().as_fd()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("who")).unwrap(), "0");
}

#[test]
fn a_missing_layer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    for (way, mount) in WAYS {
        let lower = std::slice::from_ref(&missing);
        let error = mount(lower, Some(layer(&missing, &missing, true))).unwrap_err();
        let text = error.to_string();
        // Kernels that take no layer by itself name none either before the list is made.
        assert!(text.contains("missing"), "{way}: {text}");
    }
}
