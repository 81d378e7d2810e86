//! Logs written by the monitor's writer, and damaged ones written by hand.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use crate::json_file::{LogWriter, OutputStream};

use super::*;

fn options(directory: &Path) -> Options {
    Options {
        path: directory.join("json.log"),
        stdout: true,
        stderr: true,
        since: None,
        until: None,
        tail: None,
        timestamps: false,
        details: false,
        follow: false,
        framing: Framing::Raw,
    }
}

fn writer(directory: &Path, max_size: u64, max_files: u32) -> LogWriter {
    LogWriter::open(
        directory.join("json.log"),
        max_size,
        max_files,
        &BTreeMap::new(),
    )
}

fn at(seconds: i64) -> Timestamp {
    Timestamp {
        seconds: 1_767_323_040 + seconds,
        nanoseconds: 120_000_000,
    }
}

fn read(options: Options) -> String {
    let mut reader = Reader::open(options).unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        all.extend(chunk);
    }
    String::from_utf8(all).unwrap()
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

/// Ten seconds apart, every third line on standard error.
fn write_numbers(log: &mut LogWriter, range: std::ops::Range<u32>) {
    for number in range {
        let stream = if number % 3 == 0 {
            OutputStream::Stderr
        } else {
            OutputStream::Stdout
        };
        log.write(
            stream,
            format!("line {number}\n").as_bytes(),
            at(i64::from(number)),
        );
    }
}

#[test]
fn text_comes_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = writer(directory.path(), 0, 1);
    let text = "tab\t quote\" back\\ <&> \u{1b}[0m é € 😀 \u{2028}\n\n".to_owned()
        + &"long ".repeat(9000)
        + "\nno line end";
    log.write(OutputStream::Stdout, text.as_bytes(), at(0));
    log.end_of_stream(OutputStream::Stdout, at(0));
    assert_eq!(read(options(directory.path())), text);
    assert_eq!(read(options(&directory.path().join("missing"))), "");
}

#[test]
fn entries_are_framed_and_start_with_time_and_details() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("json.log");
    let attributes = BTreeMap::from([
        ("a b".to_owned(), "x&y".to_owned()),
        ("c".to_owned(), "1".to_owned()),
    ]);
    let mut log = LogWriter::open(path, 0, 1, &attributes);
    log.write(OutputStream::Stderr, b"hello\n", at(5));
    let framed = Options {
        framing: Framing::Multiplexed,
        ..options(directory.path())
    };
    assert_eq!(read(framed.clone()), "\x02\0\0\0\0\0\0\x06hello\n");
    let timed = Options {
        timestamps: true,
        ..framed.clone()
    };
    let time = "2026-01-02T03:04:05.120000000Z";
    assert_eq!(
        read(timed.clone()),
        format!("\x02\0\0\0\0\0\0\x25{time} hello\n")
    );
    let detailed = Options {
        details: true,
        ..timed
    };
    assert_eq!(
        read(detailed),
        format!("\x02\0\0\0\0\0\0\x33{time} a+b=x%26y,c=1 hello\n")
    );
}

#[test]
fn streams_and_times_choose_entries() {
    let directory = tempfile::tempdir().unwrap();
    write_numbers(&mut writer(directory.path(), 0, 1), 0..10);
    let all = options(directory.path());
    let errors = Options {
        stdout: false,
        ..all.clone()
    };
    assert_eq!(read(errors), "line 0\nline 3\nline 6\nline 9\n");
    let between = Options {
        since: Some(at(3)),
        until: Some(at(5)),
        ..all.clone()
    };
    assert_eq!(read(between), numbers(3..6));
    let tail_first = Options {
        tail: Some(2),
        stdout: false,
        ..all
    };
    assert_eq!(read(tail_first), "line 9\n");
}

#[test]
fn tails_of_any_length_cross_rotated_files() {
    let directory = tempfile::tempdir().unwrap();
    write_numbers(&mut writer(directory.path(), 700, 100), 0..100);
    assert!(directory.path().join("json.log.5").exists());
    for lines in 0..105 {
        let tail = Options {
            tail: Some(lines),
            ..options(directory.path())
        };
        let first = 100_u32.saturating_sub(u32::try_from(lines).unwrap());
        assert_eq!(read(tail), numbers(first..100), "tail {lines}");
    }
    assert_eq!(read(options(directory.path())), numbers(0..100));
}

#[test]
fn a_tail_is_found_across_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = writer(directory.path(), 0, 1);
    let lines: Vec<String> = (0..30)
        .map(|n| format!("{n}{}\n", "x".repeat(9000)))
        .collect();
    log.write(OutputStream::Stdout, lines.concat().as_bytes(), at(0));
    for count in [1, 7, 8, 15, 29] {
        let tail = Options {
            tail: Some(count),
            ..options(directory.path())
        };
        let first = 30 - usize::try_from(count).unwrap();
        assert_eq!(read(tail), lines[first..].concat());
    }
}

#[test]
fn damaged_lines_are_skipped_and_the_rest_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let good = |text: &str| {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}")
    };
    let lines = [
        good("one"),
        "\0\0\0\0".to_owned(),
        "{\"log\":\"cut".to_owned(),
        String::new(),
        format!("{{\"log\":\"cut{}", good("two")),
        "{\"log\":\"bad escape \\q\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}"
            .into(),
        "{\"time\":\"2026-01-02T03:04:05Z\",\"stream\":\"stdout\",\"log\":\"three\\n\"}".to_owned(),
        format!("\0\0{}", good("four")),
        "x".repeat(LINE_LIMIT + 300_000),
        good("five"),
        good("six")[..40].to_owned(),
    ];
    let mut content = lines.join("\n");
    std::fs::write(directory.path().join("json.log"), &content).unwrap();
    assert_eq!(
        read(options(directory.path())),
        "one\ntwo\nthree\nfour\nfive\n"
    );
    content.truncate(content.len() - 40);
    content += &good("whole but for the line end");
    std::fs::write(directory.path().join("json.log"), &content).unwrap();
    let tail = Options {
        tail: Some(1),
        timestamps: true,
        ..options(directory.path())
    };
    assert_eq!(
        read(tail),
        "2026-01-02T03:04:05.000000000Z five\n\
         2026-01-02T03:04:05.000000000Z whole but for the line end\n"
    );
}

/// Follows from the start while `write` works, then ends the container; answers what was read.
fn follow(options: Options, write: impl FnOnce()) -> String {
    let mut reader = Reader::open(Options {
        follow: true,
        ..options
    })
    .unwrap();
    let stopper = reader.stopper();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            all.extend(chunk);
        }
        String::from_utf8(all).unwrap()
    });
    write();
    stopper.container_ended();
    reading.join().unwrap()
}

fn first_difference(got: &str, wanted: &str) -> String {
    let mut pairs = got.lines().zip(wanted.lines());
    format!("{:?}", pairs.find(|(got, wanted)| got != wanted))
}

#[test]
fn following_loses_nothing_over_many_rotations() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = writer(directory.path(), 20_000, 10_000);
    write_numbers(&mut log, 0..100);
    let all = follow(options(directory.path()), || {
        write_numbers(&mut log, 100..20_000)
    });
    assert!(
        all == numbers(0..20_000),
        "{}",
        first_difference(&all, &numbers(0..20_000))
    );
    assert!(directory.path().join("json.log.50").exists());
}

#[test]
fn a_rotation_cut_by_a_crash_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    write_numbers(&mut writer(directory.path(), 700, 100), 0..30);
    let (current, older) = (
        directory.path().join("json.log"),
        directory.path().join("older"),
    );
    std::fs::rename(&current, &older).unwrap();
    let without_newest = read(options(directory.path()));
    assert!(!without_newest.is_empty() && numbers(0..30).starts_with(&without_newest));
    let all = follow(options(directory.path()), || {
        std::fs::rename(&older, &current).unwrap()
    });
    assert_eq!(all, numbers(0..30));
}

#[test]
fn following_starts_before_the_log_exists_and_ends_with_a_cancel() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let all = follow(options(directory.path()), move || {
        write_numbers(&mut writer(&path, 0, 1), 0..3);
    });
    assert_eq!(all, numbers(0..3));
    let follow = Options {
        follow: true,
        tail: Some(0),
        ..options(directory.path())
    };
    let mut reader = Reader::open(follow).unwrap();
    assert_eq!(reader.try_next().unwrap(), Next::Wait);
    reader.stopper().cancel();
    assert_eq!(reader.next_chunk().unwrap(), None);
}

#[test]
fn a_line_that_comes_in_two_pieces_is_shown_once_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(directory.path().join("json.log")).unwrap();
    let follow = Options {
        follow: true,
        ..options(directory.path())
    };
    let mut reader = Reader::open(follow).unwrap();
    file.write_all(b"{\"log\":\"in two\\n\",\"stream\":\"std")
        .unwrap();
    assert_eq!(reader.try_next().unwrap(), Next::Wait);
    file.write_all(b"out\",\"time\":\"2026-01-02T03:04:05Z\"}\n")
        .unwrap();
    assert_eq!(reader.next_chunk().unwrap().unwrap(), b"in two\n");
}

#[test]
fn a_log_that_starts_anew_is_followed_from_its_new_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = writer(directory.path(), 1000, 1);
    let follow = Options {
        follow: true,
        ..options(directory.path())
    };
    let mut reader = Reader::open(follow).unwrap();
    write_numbers(&mut log, 0..13);
    assert_eq!(
        reader.next_chunk().unwrap().unwrap(),
        numbers(0..13).as_bytes()
    );
    write_numbers(&mut log, 13..16);
    let mut all = reader.next_chunk().unwrap().unwrap();
    while let Next::Chunk(chunk) = reader.try_next().unwrap() {
        all.extend(chunk);
    }
    assert!(numbers(13..16).as_bytes().ends_with(&all) && all.ends_with(b"line 15\n"));
}

#[test]
fn following_ends_when_the_time_limit_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = writer(directory.path(), 0, 1);
    let now = Timestamp::now();
    log.write(OutputStream::Stdout, b"now\n", now);
    let options = Options {
        follow: true,
        until: Some(now),
        ..options(directory.path())
    };
    assert_eq!(read(options), "now\n");
}

/// Not a benchmark, but a wrong complexity or a lost fast path shows.
#[test]
fn long_logs_are_read_fast() {
    let directory = tempfile::tempdir().unwrap();
    let block: Vec<u8> = [&[b'a'; 99][..], b"\n"].concat().repeat(1310);
    let mut log = writer(directory.path(), 0, 1);
    for _ in 0..500 {
        log.write(OutputStream::Stdout, &block, at(0));
    }
    let mut reader = Reader::open(Options {
        framing: Framing::Multiplexed,
        ..options(directory.path())
    })
    .unwrap();
    let start = std::time::Instant::now();
    let mut length = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        length += chunk.len();
    }
    let rate = length as f64 / start.elapsed().as_secs_f64() / 1e6;
    assert_eq!(length, 500 * 1310 * 108);
    assert!(rate > 20.0, "{rate:.0} MB/s");
}
