//! The writer against real files.

use super::*;

const NOW: Timestamp = Timestamp {
    seconds: 1_767_323_045,
    nanoseconds: 123_456_789,
};
const LATER: Timestamp = Timestamp {
    seconds: 1_767_323_046,
    nanoseconds: 0,
};

fn log(directory: &Path, max_size: u64, max_files: u32) -> LogWriter {
    LogWriter::open(
        directory.join("c-json.log"),
        max_size,
        max_files,
        &BTreeMap::new(),
    )
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

/// The `log` fields of a file.
fn texts(content: &str) -> Vec<String> {
    let line = |line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["log"].as_str().unwrap().to_owned()
    };
    content.lines().map(line).collect()
}

#[test]
fn lines_look_as_docker_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 0, 1);
    log.write(OutputStream::Stdout, b"hello\nwor", NOW);
    log.write(OutputStream::Stderr, b"\n", NOW);
    log.write(OutputStream::Stdout, b"ld\nlast", LATER);
    log.end_of_stream(OutputStream::Stdout, LATER);
    log.end_of_stream(OutputStream::Stderr, LATER);
    assert_eq!(
        read(directory.path(), "c-json.log"),
        concat!(
            r#"{"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}"#,
            "\n",
            r#"{"log":"\n","stream":"stderr","time":"2026-01-02T03:04:05.123456789Z"}"#,
            "\n",
            r#"{"log":"world\n","stream":"stdout","time":"2026-01-02T03:04:06Z"}"#,
            "\n",
            r#"{"log":"last","stream":"stdout","time":"2026-01-02T03:04:06Z"}"#,
            "\n",
        )
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(directory.path().join("c-json.log"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn long_lines_are_cut_at_16_kib_whatever_the_reads_were() {
    let line = format!("{}\nnext\n", "x".repeat(2 * LINE_LIMIT + 5));
    for step in [1, 7, 4096, LINE_LIMIT, 65536] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 0, 1);
        for (number, piece) in line.as_bytes().chunks(step).enumerate() {
            log.write(
                OutputStream::Stdout,
                piece,
                if number == 0 { NOW } else { LATER },
            );
        }
        let content = read(directory.path(), "c-json.log");
        let lengths: Vec<usize> = texts(&content).iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_LIMIT, LINE_LIMIT, 6, 5], "step {step}");
    }
}

#[test]
fn a_character_at_the_cut_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 0, 1);
    let line = format!("{}€uro\n", "x".repeat(LINE_LIMIT - 1));
    log.write(OutputStream::Stdout, line.as_bytes(), NOW);
    let pieces = texts(&read(directory.path(), "c-json.log"));
    assert_eq!(pieces.concat(), line);
    assert_eq!(pieces[1], "€uro\n");
}

#[test]
fn files_rotate_by_size_and_the_oldest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1000, 3);
    for number in 0..100 {
        log.write(
            OutputStream::Stdout,
            format!("line {number}\n").as_bytes(),
            NOW,
        );
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["c-json.log", "c-json.log.1", "c-json.log.2"]);
    let mut all = Vec::new();
    for name in ["c-json.log.2", "c-json.log.1", "c-json.log"] {
        let content = read(directory.path(), name);
        assert!(content.len() < 1100);
        all.extend(texts(&content));
    }
    let first = 100 - all.len();
    let wanted: Vec<String> = (first..100)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert_eq!(all, wanted);
    assert!(
        all.len() > 25,
        "a rotated file is at least as long as the limit"
    );
}

#[test]
fn one_big_batch_rotates_at_line_borders() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1000, 1000);
    let data: String = (0..1000).map(|number| format!("{number}\n")).collect();
    log.write(OutputStream::Stdout, data.as_bytes(), NOW);
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(files > 60, "{files}");
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let content = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(content.len() < 1100 && content.ends_with("Z\"}\n"));
    }
}

#[test]
fn a_single_file_starts_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 300, 1);
    for number in 0..50 {
        log.write(OutputStream::Stdout, format!("{number}\n").as_bytes(), NOW);
    }
    let content = read(directory.path(), "c-json.log");
    assert!(content.len() < 400);
    assert_eq!(texts(&content).last().unwrap(), "49\n");
}

#[test]
fn a_line_cut_by_a_crash_does_not_swallow_the_next() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c-json.log"), b"{\"log\":\"cut").unwrap();
    log(directory.path(), 0, 1).write(OutputStream::Stdout, b"next\n", NOW);
    let content = read(directory.path(), "c-json.log");
    assert!(content.starts_with("{\"log\":\"cut\n{\"log\":\"next\\n\""));
}

#[test]
fn a_full_disk_costs_lines_and_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path();
    let data = c"size=64k";
    let tmpfs = rustix::mount::mount(
        "none",
        mount,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        data,
    );
    tmpfs.unwrap();
    let mut log = log(mount, 0, 1);
    let line = format!("{}\n", "y".repeat(999));
    for _ in 0..200 {
        log.write(OutputStream::Stdout, line.as_bytes(), NOW);
    }
    let full = read(mount, "c-json.log");
    log.file.as_ref().unwrap().set_len(0).unwrap();
    log.write(OutputStream::Stdout, b"back\n", NOW);
    log.write(OutputStream::Stdout, b"again\n", NOW);
    let after = texts(read(mount, "c-json.log").trim_start_matches('\0'));
    rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    let kept = texts(&full).len();
    assert!((30..=64).contains(&kept), "{kept} whole lines fit");
    let notice = format!(
        "cais: {} log lines were lost: No space left on device (os error 28)\n",
        200 - kept
    );
    assert_eq!(after, [notice, "back\n".to_owned(), "again\n".to_owned()]);
}

/// Not a benchmark, but a wrong complexity or a lost fast path shows: 64 MB of 100-byte lines.
#[test]
fn many_short_lines_are_written_fast() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 10 << 20, 3);
    let block: Vec<u8> = [&[b'a'; 99][..], b"\n"].concat().repeat(1310);
    let start = std::time::Instant::now();
    for _ in 0..500 {
        log.write(OutputStream::Stdout, &block, NOW);
    }
    let rate = (500 * block.len()) as f64 / start.elapsed().as_secs_f64() / 1e6;
    assert!(rate > 20.0, "{rate:.0} MB/s");
}
