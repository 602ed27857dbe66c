//! A damaged store: found, told with the way out, and left as it is.

use super::place::{
    Place, Untouched, append, exact, flip, goes_on, newest_marker, refused, written,
};
use std::fs;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{PATIENCE, counts_are, newest_in, recount, run};

const DAMAGED: [&str; 3] = ["damaged", "Nothing was changed", "--start-over"];

#[test]
fn an_undamaged_copy_goes_on() {
    let place = Place::counted();
    let mode = || fs::read_to_string(place.state().join("mode")).expect("it is there");
    let before = mode();
    place.check(&[]).is("check", 0, &["go on after batch 16"]);
    assert_eq!(mode(), before, "a store that was only looked at is still one that was stopped");
    goes_on("a copy", &place, &[], &["go on after batch 16", "sink \"out\" holds batch 16"]);
    exact("a copy", &place);
}

#[test]
fn one_flipped_byte_is_found() {
    let wal = |share: fn(usize) -> usize| move |place: &Place| flip(&place.largest(".log"), share);
    type Damage = Box<dyn Fn(&Place)>;
    let cases: [(&str, Damage); 6] = [
        ("the middle of the log", Box::new(wal(|length| length / 2))),
        ("early in the log", Box::new(wal(|length| length / 20))),
        ("the end of the log", Box::new(wal(|length| length - 5))),
        (
            "CURRENT's number",
            Box::new(|place| flip(&place.state().join("db/CURRENT"), |length| length - 2)),
        ),
        ("CURRENT's first byte", Box::new(|place| flip(&place.state().join("db/CURRENT"), |_| 0))),
        (
            "the manifest",
            Box::new(|place| {
                let manifests = fs::read_dir(place.state().join("db"))
                    .expect("it is there")
                    .map(|entry| entry.expect("an entry").path());
                let manifest = manifests
                    .filter(|path| path.to_string_lossy().contains("MANIFEST"))
                    .max()
                    .expect("there is one");
                flip(&manifest, |length| length / 2);
            }),
        ),
    ];
    for (case, damage) in cases {
        let place = Place::counted();
        damage(&place);
        refused(
            case,
            &place,
            &[],
            65,
            &[&DAMAGED[..], &[place.state().to_str().expect("UTF-8")]].concat(),
            Untouched::All,
        );
    }
    // The folded values are read when the workers load them: the sink is claimed by then, for the
    // batch that it holds.
    let place = Place::counted();
    flip(&place.largest(".sst"), |length| length / 3);
    refused("a folded value", &place, &[], 65, &DAMAGED, Untouched::Claimed);
}

#[test]
fn a_folder_whose_name_looks_like_a_word_of_rocksdb_is_damaged_all_the_same() {
    let place = Place::counted();
    let clocks = place.folder.path().join("clocks and blocks");
    fs::rename(place.state(), &clocks).expect("it can be moved");
    let mut values = fs::read_dir(clocks.join("db"))
        .expect("it is there")
        .map(|entry| entry.expect("an entry").path());
    let value = values
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .expect("something is folded");
    fs::remove_file(value).expect("it is there");
    let state = clocks.to_str().expect("UTF-8");
    for command in ["check", "run"] {
        run("word_count", &[command, "--state", state, "--listen", "none"])
            .is(command, 65, &DAMAGED);
    }
}

/// A byte in the header of the log's very last record can say that the record is longer than the
/// file: to RocksDB that is what a crash in the middle of a write leaves, which no sync had
/// acknowledged. It is dropped, and the store is that of the batch before. That is consistent: the
/// positions go back too, and the records are read again. A sink that holds the batch refuses;
/// without one everything is counted once.
#[test]
fn one_flipped_byte_in_the_last_record_never_counts_wrong() {
    let (place, input) = written();
    let input_of = ["--input", input.to_str().expect("UTF-8")];
    place.run(&input_of).is("the first run", 0, &["1 batch"]);
    append(&input, "c d\n");
    // The second batch is published, and what confirms that in the store is written a second later:
    // the process is killed before.
    let run = place.start(&[&input_of[..], &["--follow"]].concat(), &[]);
    let began = Instant::now();
    while !newest_marker(&place).contains("\"txid\":2") {
        assert!(began.elapsed() < PATIENCE, "it does not come to batch 2: {}", run.err());
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill();
    let whole = recount(["a b a b c c d"]);
    let (mut found, mut fallen_back, mut harmless) = (0, 0, 0);
    let newest = |place: &Place| place.files_like("db", ".log").pop().expect("there is one");
    let log = fs::read(newest(&place)).expect("it can be read");
    let (last, length) = (last_record(&log), log.len());
    for at in (last..last + 7).chain([last + 20, length - 1]) {
        let copy = place.copy();
        flip(&newest(&copy), |_| at);
        let outcome = copy.run(&input_of);
        match outcome.code {
            Some(65) => {
                outcome.is("found", 65, &DAMAGED);
                found += 1;
            }
            Some(66) => {
                outcome.is("the sink is ahead", 66, &["state is older than its sink"]);
                // The copy without its sink's files: as a topology whose sink cannot tell.
                for file in [copy.out(), copy.marker()] {
                    fs::remove_file(file).expect("it is there");
                }
                copy.run(&input_of).is(
                    "without the sink",
                    0,
                    &["go on after batch 1", "lost its marker"],
                );
                counts_are("a batch back", &copy.state(), &whole);
                fallen_back += 1;
            }
            Some(0) => {
                counts_are("it changed nothing", &copy.state(), &whole);
                assert_eq!(newest_in(&copy.out()), whole);
                harmless += 1;
            }
            _ => panic!("byte {at} of {length}: {outcome:#?}"),
        }
    }
    println!(
        "of 9 flips in the last record {found} were found, {fallen_back} fell back a batch, \
         {harmless} changed nothing"
    );
    assert!(
        found > 0 && fallen_back > 0 && harmless == 0,
        "a checksum covers the record, and the length is not believed"
    );
}

/// Where the last record of a log of RocksDB begins, or its last fragment: blocks of 32 KiB; a
/// header of 7 bytes: checksum, length (u16), type.
fn last_record(log: &[u8]) -> usize {
    const BLOCK: usize = 32 << 10;
    const HEADER: usize = 7;
    let (mut at, mut last) = (0, 0);
    while at + HEADER <= log.len() {
        if BLOCK - at % BLOCK < HEADER {
            at += BLOCK - at % BLOCK;
            continue;
        }
        last = at;
        // Types from 5 on have a longer header.
        let longer = if log[at + 6] >= 5 && log[at + 6] <= 8 { 4 } else { 0 };
        at += HEADER + longer + usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
    }
    last
}

#[test]
fn a_log_that_was_cut_off_behind_a_fold_is_damaged() {
    let place = Place::counted();
    let log = place.largest(".log");
    let length = fs::metadata(&log).expect("it is there").len();
    // Cut to a tenth, the log looks as if the process had died there; but the folded values are of
    // a later batch.
    let file = fs::OpenOptions::new().write(true).open(&log).expect("it can be written");
    file.set_len(length / 10).expect("it can be cut");
    // What was written after it goes too, as in a folder that a machine wrote back in part.
    for later in place.files_like("db", ".log").into_iter().filter(|file| *file > log) {
        fs::write(later, b"").expect("it can be written");
    }
    let outcome = place.check(&[]);
    assert_eq!(outcome.code, Some(65), "{outcome:#?}");
    refused("cut off", &place, &[], 65, &["damaged", "--start-over"], Untouched::Written);
}
