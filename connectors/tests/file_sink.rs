//! The file as a sink: exactly once, through crashes, copies and damage.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tidemill_connectors::Files;
use tidemill_engine::conformance;
use tidemill_engine::sink::{Entry, Owner, Publisher, Sink};
use tidemill_state::outbox::PayloadWriter;
use tidemill_state::{Error, Incarnation, Kind, Txid};

struct Output {
    _folder: TempDir,
    path: PathBuf,
}

impl Output {
    fn new() -> Output {
        let folder = TempDir::new().expect("a temporary folder");
        Output { path: folder.path().join("out.jsonl"), _folder: folder }
    }

    /// An output that run 1 has written batch 1 to.
    fn written() -> Output {
        let output = Output::new();
        let mut publisher = output.open(owner(1)).expect("opened");
        publisher.claim(Txid::NONE).expect("claimed");
        publisher
            .prepare(&[entry(1, &["\"one\"", "\"two\""])])
            .expect("prepared")
            .commit()
            .expect("committed");
        output
    }

    fn open(&self, owner: Owner) -> Result<Box<dyn Publisher>, Error> {
        Files::to::<String>(&self.path).open(&owner)
    }

    fn marker(&self) -> PathBuf {
        self.path.with_extension("jsonl.marker")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("read")
    }

    fn append(&self, text: &str) {
        OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("appended");
    }
}

fn owner(run: u64) -> Owner {
    Owner {
        topology: "t".into(),
        sink: "s".into(),
        incarnation: Incarnation { counter: run, nonce: run },
        points: Arc::default(),
    }
}

fn entry(txid: u64, records: &[&str]) -> Entry {
    let mut payload = PayloadWriter::default();
    for record in records {
        payload
            .push(|into| {
                into.extend_from_slice(record.as_bytes());
                Ok(())
            })
            .expect("pushed");
    }
    Entry { txid: Txid(txid), payload: Arc::from(payload.bytes()) }
}

fn check_error<T>(result: Result<T, Error>, kind: Kind, parts: &[&str]) {
    let Err(error) = result else { panic!("no error, and one with {parts:?} is expected") };
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_file_keeps_the_contract_of_a_sink() {
    let output = Output::new();
    let items: Vec<(String, u64)> = (0..50_000).map(|n| (format!("key\n{n}"), n)).collect();
    let read_back = || match fs::read(&output.path) {
        Ok(bytes) => {
            let lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines
                .iter()
                .map(|line| line.strip_suffix(b"\n").expect("lines are whole").to_vec())
                .collect()
        }
        Err(_) => Vec::new(),
    };
    conformance::sink(|| Files::to::<(String, u64)>(&output.path), &items[..600], read_back);
    let first: (String, u64) = serde_json::from_slice(&read_back()[0]).expect("JSON");
    assert_eq!(first, items[0]);
}

#[test]
fn what_was_not_committed_is_cut_off() {
    let output = Output::written();
    output.append("\"thr");
    let mut publisher = output.open(owner(2)).expect("opened");
    assert_eq!(publisher.marker().expect("read").map(|marker| marker.txid), Some(Txid(1)));
    assert_eq!(output.text(), "\"one\"\n\"two\"\n\"thr", "opening changes nothing");
    publisher.claim(Txid(1)).expect("claimed");
    assert_eq!(output.text(), "\"one\"\n\"two\"\n");
    let prepared =
        publisher.prepare(&[entry(2, &["3"]), entry(3, &[]), entry(5, &["5"])]).expect("prepared");
    drop(prepared);
    assert_eq!(output.text(), "\"one\"\n\"two\"\n");
    publisher
        .prepare(&[entry(2, &["3"]), entry(3, &[]), entry(5, &["5"])])
        .expect("prepared")
        .commit()
        .expect("committed");
    assert_eq!(output.text(), "\"one\"\n\"two\"\n3\n5\n");
    assert_eq!(publisher.marker().expect("read").map(|marker| marker.txid), Some(Txid(5)));
    check_error(
        publisher.prepare(&[entry(5, &["5"])]).map(drop),
        Kind::Bug,
        &["batch 5 is published after batch 5"],
    );
}

#[test]
fn a_second_process_is_kept_out() {
    let output = Output::written();
    let _held = output.open(owner(2)).expect("opened");
    check_error(output.open(owner(3)), Kind::TryAgain, &["out.jsonl.lock is held"]);
}

#[test]
fn somebody_elses_output_is_refused() {
    let output = Output::new();
    fs::write(&output.path, "mine\n").expect("written");
    check_error(
        output.open(owner(1)),
        Kind::Config,
        &["out.jsonl exists and was not written by this topology", "move it away"],
    );
    assert_eq!(output.text(), "mine\n");
    check_error(
        Files::to::<u64>(output.path.join("x")).open(&owner(1)),
        Kind::Config,
        &["there is no folder"],
    );
    check_error(
        Files::to::<u64>(output._folder.path()).open(&owner(1)),
        Kind::Config,
        &["is a folder"],
    );

    let output = Output::written();
    for other in
        [Owner { topology: "u".into(), ..owner(2) }, Owner { sink: "z".into(), ..owner(2) }]
    {
        check_error(
            output.open(other.clone()).and_then(|mut publisher| publisher.marker()),
            Kind::Foreign,
            &["belongs to sink \"s\" of topology \"t\""],
        );
        check_error(
            output.open(other).and_then(|mut publisher| publisher.claim(Txid(1))),
            Kind::Foreign,
            &["give each sink a path of its own"],
        );
    }
    let copy = Owner { incarnation: Incarnation { counter: 1, nonce: 9 }, ..owner(1) };
    check_error(
        output.open(copy).and_then(|mut publisher| publisher.claim(Txid(1))),
        Kind::Foreign,
        &["another run took the sink over"],
    );
    assert_eq!(output.text(), "\"one\"\n\"two\"\n");
}

#[test]
fn an_owner_that_lost_the_sink_leaves_it_alone() {
    let output = Output::written();
    let mut old = output.open(owner(2)).expect("opened");
    old.claim(Txid(1)).expect("claimed");
    let prepared = old.prepare(&[entry(2, &["\"old\""])]).expect("prepared");
    // Where locks do not work (some network file systems), a second run gets this far.
    fs::remove_file(output.path.with_extension("jsonl.lock")).expect("removed");
    let mut new = output.open(owner(3)).expect("opened");
    new.claim(Txid(1)).expect("claimed");
    new.prepare(&[entry(2, &["\"new and longer\""])])
        .expect("prepared")
        .commit()
        .expect("committed");
    check_error(prepared.commit(), Kind::Foreign, &["written by run 3-", "this is run 2-"]);
    check_error(
        old.prepare(&[entry(2, &["\"old\""])]).map(drop),
        Kind::Foreign,
        &["another run took the sink over"],
    );
    assert_eq!(output.text(), "\"one\"\n\"two\"\n\"new and longer\"\n");
}

#[test]
fn damage_is_found() {
    let claim =
        |output: &Output| output.open(owner(2)).and_then(|mut publisher| publisher.claim(Txid(1)));

    let output = Output::written();
    fs::write(&output.path, "\"one\"\n").expect("cut");
    check_error(
        claim(&output),
        Kind::Sink,
        &["was truncated: its marker says 12 bytes, the file has 6"],
    );
    fs::remove_file(&output.path).expect("removed");
    check_error(claim(&output), Kind::Sink, &["is missing: its marker says 12 bytes"]);

    let output = Output::written();
    let marker = fs::read_to_string(output.marker()).expect("read");
    assert!(marker.contains("\"length\":12"), "{marker}");
    fs::write(output.marker(), marker.replace("\"length\":12", "\"length\":6")).expect("changed");
    check_error(claim(&output), Kind::Sink, &["out.jsonl.marker is damaged", "checksum"]);
    fs::write(output.marker(), &marker[..marker.len() / 2]).expect("cut");
    check_error(claim(&output), Kind::Sink, &["out.jsonl.marker is damaged"]);
    fs::write(output.marker(), marker.replace("\"format\":1", "\"format\":2")).expect("changed");
    check_error(claim(&output), Kind::Sink, &["has format 2"]);
    fs::remove_file(output.marker()).expect("removed");
    check_error(claim(&output), Kind::Config, &["there is no marker"]);

    let output = Output::written();
    let mut publisher = output.open(owner(2)).expect("opened");
    publisher.claim(Txid(1)).expect("claimed");
    fs::remove_file(output.marker()).expect("removed");
    check_error(
        publisher.prepare(&[entry(2, &["3"])]).map(drop),
        Kind::Sink,
        &["was removed under this run"],
    );
}

#[test]
fn an_output_that_is_moved_or_cut_under_a_run_is_found_at_the_next_commit() {
    let moved =
        |output: &Output| fs::rename(&output.path, output.path.with_extension("1")).expect("moved");
    let removed = |output: &Output| fs::remove_file(&output.path).expect("removed");
    let replaced = |output: &Output| {
        fs::rename(&output.path, output.path.with_extension("1")).expect("moved");
        fs::write(&output.path, "").expect("made");
    };
    let cut = |output: &Output| fs::write(&output.path, "").expect("cut");
    type Damage<'a> = &'a dyn Fn(&Output);
    let cases: [(Damage<'_>, &str); 4] = [
        (&moved, "was renamed or removed under this run: move it back"),
        (&removed, "was renamed or removed under this run"),
        (&replaced, "was replaced by another file under this run"),
        (&cut, "was cut or overwritten under this run"),
    ];
    for (damage, part) in cases {
        let claimed = |output: &Output| {
            let mut publisher = output.open(owner(2)).expect("opened");
            publisher.claim(Txid(1)).expect("claimed");
            publisher
        };
        let output = Output::written();
        let mut publisher = claimed(&output);
        damage(&output);
        check_error(
            publisher.prepare(&[entry(2, &["3"])]).map(drop),
            Kind::Sink,
            &[part, "to rotate an output"],
        );
        // Between the write and the commit.
        let output = Output::written();
        let mut publisher = claimed(&output);
        let prepared = publisher.prepare(&[entry(2, &["3"])]).expect("prepared");
        damage(&output);
        check_error(prepared.commit(), Kind::Sink, &[part]);
        let text = fs::read(&output.path).unwrap_or_default();
        assert!(!text.contains(&0), "no zeros are written where the content was: {text:?}");
    }
}

#[test]
fn an_output_is_rotated_between_runs() {
    let output = Output::written();
    fs::rename(&output.path, output.path.with_extension("1")).expect("moved");
    fs::rename(output.marker(), output.path.with_extension("1.marker")).expect("moved");
    let mut publisher = output.open(owner(2)).expect("opened");
    assert!(publisher.marker().expect("read").is_none());
    publisher.claim(Txid(1)).expect("claimed");
    publisher.prepare(&[entry(2, &["3"])]).expect("prepared").commit().expect("committed");
    assert_eq!(output.text(), "3\n");
}

#[test]
fn a_full_disk_loses_nothing() {
    // /dev/full takes no byte; a link to it stands for a disk that filled up.
    let output = Output::new();
    std::os::unix::fs::symlink("/dev/full", &output.path).expect("linked");
    let mut publisher = output.open(owner(1)).expect("opened");
    publisher.claim(Txid::NONE).expect("claimed");
    check_error(
        publisher.prepare(&[entry(1, &["1"])]).map(drop),
        Kind::TryAgain,
        &["out.jsonl", "No space left", "nothing is lost"],
    );
    assert_eq!(publisher.marker().expect("read").map(|marker| marker.txid), Some(Txid::NONE));
}

#[test]
fn what_is_not_one_line_is_refused_before_the_commit() {
    #[derive(Clone, serde::Deserialize)]
    struct NeverJson;
    impl serde::Serialize for NeverJson {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("out of words"))
        }
    }
    let error =
        Files::to::<NeverJson>("x").encode(&NeverJson, &mut Vec::new()).expect_err("refused");
    assert!(
        error.kind() == Kind::UserCode && error.to_string().contains("out of words"),
        "{error}"
    );
}
