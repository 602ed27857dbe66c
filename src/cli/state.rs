//! `state`: the values of a stopped topology, from its folder, or of a running one, over its port.

use super::arguments::Place;
use super::environment;
use super::listing::Listing;
use super::log;
use super::output::{Output, pretty, print};
use super::remote::{Remote, path_part};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::PathBuf;
use std::sync::Arc;
use tidemill_engine::states::StateCodec;
use tidemill_engine::{Topology, outline};
use tidemill_state::{Error, Kind, Points, Result, StateId, Store};

/// The exit code of `get` when there is no value.
const NO_VALUE: i32 = 1;

/// Prints what there is.
pub(super) fn list(place: &Place, json: bool) -> Result<()> {
    let listing = match resolve(place)? {
        Where::Running(remote) => Listing::of_running(&remote)?,
        Where::Stopped(dir) => inspect(&dir, Listing::of_store)?,
    };
    if json {
        let listing = serde_json::to_value(&listing)
            .map_err(|why| Error::bug(format!("the listing cannot be written as JSON: {why}")))?;
        return print(&pretty(&listing));
    }
    print(&listing.to_text())
}

/// Prints the value of a key. Gives the exit code.
pub(super) fn get<F>(place: &Place, name: &str, key: &str, build: &F) -> Result<i32>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let value = match resolve(place)? {
        Where::Running(remote) => ask(&remote, name, key)?,
        Where::Stopped(dir) => inspect(&dir, |store| {
            let (id, codec) = find(store, name, build)?;
            let (key, group) = codec.parse_key(key, store.key_groups())?;
            let value = store.get(id, group, &key)?;
            value
                .map(|value| readable(&*codec, &key, &value, codec.value_to_json(&key, &value)))
                .transpose()
        })?,
    };
    match value {
        Some(value) => print(&value).map(|()| 0),
        None => {
            super::log::say(&format!("state \"{name}\" has no value for key \"{key}\""));
            Ok(NO_VALUE)
        }
    }
}

/// Prints every key and value, in the order of the keys.
pub(super) fn scan<F>(place: &Place, name: &str, limit: Option<u64>, build: &F) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let dir = match resolve(place)? {
        Where::Stopped(dir) => dir,
        Where::Running(remote) => return scan_running(&remote, name, limit),
    };
    inspect(&dir, |store| {
        let (id, codec) = find(store, name, build)?;
        let mut output = Output::new();
        let mut left = limit.unwrap_or(u64::MAX);
        if left > 0 {
            store.scan(id, |key, value| {
                left -= 1;
                let mut line = Vec::new();
                readable(&*codec, key, value, codec.write_row(key, Some(value), &mut line))?;
                Ok(output.line(String::from_utf8_lossy(&line))? && left > 0)
            })?;
        }
        output.end()
    })
}

/// The error of a row that cannot be read names the state, the key and the way out.
fn readable<T>(codec: &dyn StateCodec, key: &[u8], value: &[u8], shown: Result<T>) -> Result<T> {
    shown.or_else(|why| codec.read_row(key, Some(value)).and(Err(why)))
}

/// A page of a running topology's state, its keys and values as they came: read as numbers, digits
/// would be lost.
#[derive(Deserialize)]
struct Page<'a> {
    txid: u64,
    lineage: String,
    #[serde(default)]
    moved_on: bool,
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
    /// Missing on the last page; `null` is a key.
    #[serde(borrow, default, deserialize_with = "there")]
    next: Option<&'a RawValue>,
}

/// Reads what is there, also if it is `null`.
fn there<'a, D: serde::Deserializer<'a>>(
    from: D,
) -> std::result::Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// Prints the keys and values of a running topology, page by page: all of one batch.
///
/// # Errors
/// Kind TryAgain, once all is printed: not all of it is of one batch.
fn scan_running(remote: &Remote, name: &str, limit: Option<u64>) -> Result<()> {
    let mut output = Output::new();
    let (mut left, mut go_on, mut moved_to) = (limit.unwrap_or(u64::MAX), String::new(), None);
    while left > 0 {
        let path = format!("/v1/state/{}?limit={}{go_on}", path_part(name), left.min(ROWS_AT_ONCE));
        let answer = remote.get(&path)?;
        let page: Page<'_> = answer.read()?;
        if page.moved_on {
            log::say(&format!(
                "what follows is of batch {}: the one before is no longer held",
                page.txid
            ));
            moved_to = Some(page.txid);
        }
        for row in page.rows {
            left -= 1;
            if !output.line(row)? {
                return output.end();
            }
        }
        let Some(next) = page.next else { break };
        // A text is a key as it is, anything else as JSON.
        let next = serde_json::from_str(next.get()).unwrap_or_else(|_| next.get().to_string());
        let (at, lineage) = (page.txid, path_part(&page.lineage));
        go_on = format!("&at={at}&lineage={lineage}&after={}", path_part(&next));
    }
    output.end()?;
    moved_to.map_or(Ok(()), |txid| {
        Err(Error::try_again(format!(
            "the rows are not of one batch: the walk moved on while it was read, lastly to batch \
             {txid}. Scan again; if it moves on each time, read less with --limit, or let the \
             topology hold batches longer with more --pin-bytes"
        )))
    })
}

/// The number of rows of a running topology that are asked for at once.
const ROWS_AT_ONCE: u64 = 1000;

enum Where {
    Stopped(PathBuf),
    Running(Remote),
}

fn resolve(place: &Place) -> Result<Where> {
    if let Some(url) = &place.at {
        return Remote::at(url)?.with_token_file(place.token_file.as_deref()).map(Where::Running);
    }
    if let Some(state) = &place.state {
        return Ok(Where::Stopped(state.clone()));
    }
    // Not read by clap: there each would contradict the other's argument.
    match (std::env::var_os(environment::STATE), std::env::var(environment::AT)) {
        (Some(_), Ok(_)) => Err(Error::config(
            "which state? Both TIDEMILL_STATE and TIDEMILL_AT are set: choose with --state DIR (a \
             stopped topology's folder) or --at URL (a running one's port), or unset one of them",
        )),
        (Some(state), Err(_)) => Ok(Where::Stopped(PathBuf::from(state))),
        (None, Ok(url)) => {
            Remote::at(&url)?.with_token_file(place.token_file.as_deref()).map(Where::Running)
        }
        (None, Err(_)) => Err(Error::config(
            "which state? Give the folder of a stopped topology with --state DIR (or \
             TIDEMILL_STATE), or the port of a running one with --at URL (or TIDEMILL_AT)",
        )),
    }
}

/// Opens the store of a stopped topology, looks at it, and leaves it as it was.
fn inspect<R>(dir: &std::path::Path, look: impl FnOnce(&Store) -> Result<R>) -> Result<R> {
    let store = Store::inspect(dir).map_err(|error| match error.kind() {
        Kind::TryAgain => Error::try_again(format!(
            "{error}; or ask the running one, with --at URL instead of --state"
        )),
        _ => error,
    })?;
    let seen = look(&store)?;
    store.close(&Points::none())?;
    Ok(seen)
}

/// A state of the store, with the types that the program gives it.
fn find<F>(store: &Store, name: &str, build: &F) -> Result<(StateId, Arc<dyn StateCodec>)>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let schema = store.facts()?.schema;
    let dir = store.dir().display();
    let Some((id, recorded)) = schema.states.iter().find(|(_, state)| state.name == name) else {
        let names: Vec<&str> = schema.states.iter().map(|(_, state)| state.name.as_str()).collect();
        return Err(Error::config(format!(
            "there is no state \"{name}\" in {dir}; there are: {}",
            names.join(", ")
        )));
    };
    let codecs = outline(build)?.codecs;
    let codec = codecs.into_iter().find(|codec| codec.decl().name == name).ok_or_else(|| {
        Error::config(format!(
            "state \"{name}\" is in {dir}, but this program does not know it: \
            use the program that wrote it"
        ))
    })?;
    let decl = codec.decl();
    if let Some((recorded, declared)) = recorded.difference(&decl) {
        return Err(Error::config(format!(
            "state \"{name}\" in {dir} is {recorded}, but this program has it as {declared}: use \
             the program that wrote it"
        )));
    }
    Ok((*id, codec))
}

/// Returns the value of a key of a running topology, as it came.
fn ask(remote: &Remote, name: &str, key: &str) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Missing {
        #[serde(rename = "txid")]
        _txid: u64,
    }
    #[derive(Deserialize)]
    struct Found<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let answer = remote.get(&format!("/v1/state/{}/{}", path_part(name), path_part(key)))?;
    // Without a value the answer still names the batch; without the state it does not.
    if answer.status == 404 && answer.part::<Missing>().is_ok() {
        return Ok(None);
    }
    answer.read::<Found<'_>>().map(|found| Some(found.value.get().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};
    use tidemill_connectors::{Files, Str};
    use tidemill_engine::aggregates::Count;
    use tidemill_engine::{Engine, Settings};

    fn build(glob: String) -> impl Fn(&Topology<'_>) + Send + Sync + 'static {
        move |topology| {
            let words = topology
                .source("lines", Files::lines(glob.as_str()))
                .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)));
            words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
        }
    }

    /// Counts the words of a file, stops, and gives the folder; folded or not.
    fn counted(
        text: &str,
        folded: bool,
    ) -> (tempfile::TempDir, Place, impl Fn(&Topology<'_>) + Send + Sync + 'static) {
        let folder = tempfile::tempdir().expect("a folder");
        let (input, state) = (folder.path().join("words.txt"), folder.path().join("state"));
        std::fs::write(&input, text).expect("it can be written");
        let glob = input.display().to_string();
        let fold_bytes = if folded { 1 } else { 1 << 30 };
        let settings = Settings { workers: 2, fold_bytes, ..Settings::new("words", &state) };
        let engine = Engine::start(settings, build(glob.clone())).expect("it starts");
        let until = Instant::now() + Duration::from_secs(30);
        while !engine.runtime().is_at_end()
            || (folded && engine.runtime().status().unfolded_bytes > 0)
        {
            assert!(
                Instant::now() < until,
                "it does not come to its end: {:?}",
                engine.runtime().status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        engine.stop();
        engine.wait().expect("a clean stop");
        (folder, Place { state: Some(state), at: None, token_file: None }, build(glob))
    }

    #[test]
    fn every_value_that_a_scan_shows_is_found_alone_folded_or_not() {
        for folded in [true, false] {
            let (_folder, place, build) = counted("b a b c\nlonger-than-eight a b\n", folded);
            let dir = place.state.clone().expect("a folder");
            let seen = inspect(&dir, |store| {
                assert_eq!(store.folded().0 > 0, folded);
                let (id, codec) = find(store, "counts", &build)?;
                let mut seen = Vec::new();
                store.scan(id, |key, value| {
                    let text: String =
                        serde_json::from_str(&codec.key_to_json(key)?).expect("a text");
                    let (encoded, group) = codec.parse_key(&text, store.key_groups())?;
                    assert_eq!(store.get(id, group, &encoded)?.as_deref(), Some(value), "{text}");
                    seen.push((
                        text,
                        codec.value_to_json(key, value)?.parse::<u64>().expect("a count"),
                    ));
                    Ok(true)
                })?;
                let (encoded, group) = codec.parse_key("d", store.key_groups())?;
                assert_eq!(store.get(id, group, &encoded)?, None);
                Ok(seen)
            });
            let expected = [("a", 2), ("b", 3), ("c", 1), ("longer-than-eight", 1)]
                .map(|(word, count)| (word.to_string(), count));
            assert_eq!(seen.expect("it can be read"), expected);
            assert_eq!(get(&place, "counts", "a", &build).expect("it can be read"), 0);
            assert_eq!(get(&place, "counts", "d", &build).expect("it can be read"), NO_VALUE);
            let listing = inspect(&dir, Listing::of_store).expect("it can be read").to_text();
            for part in ["words: batch 1 committed", "words.txt", "at 30", "Str -> u64", "4 keys"] {
                assert!(listing.contains(part), "{part} is not in\n{listing}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let (folder, place, build) = counted("a\n", false);
        let refused = |place: &Place, name: &str, parts: &[&str]| {
            let error = get(place, name, "a", &build).expect_err("it is refused");
            assert_eq!(error.kind(), Kind::Config);
            for part in parts {
                assert!(error.to_string().contains(part), "{part} is not in: {error}");
            }
        };
        refused(&place, "count", &["\"count\"", "there are: counts"]);
        refused(
            &Place { state: Some(folder.path().join("none")), at: None, token_file: None },
            "counts",
            &["no state in", "none"],
        );
        let running = Place { state: None, at: Some("127.0.0.1:1".to_string()), token_file: None };
        let error = scan(&running, "counts", None, &build).expect_err("nobody answers");
        assert_eq!(error.kind(), Kind::TryAgain);
        assert!(error.to_string().contains("no topology answers"), "{error}");
        let other = |topology: &Topology<'_>| {
            topology
                .source("lines", Files::lines("x"))
                .group_by(|line| line.len())
                .persistent_aggregate("counts", Count);
        };
        let error = get(&place, "counts", "1", &other).expect_err("it is refused").to_string();
        assert!(error.contains("(Str) -> u64") && error.contains("usize"), "{error}");
        let held =
            Store::inspect(place.state.as_deref().expect("a folder")).expect("it can be opened");
        let error = get(&place, "counts", "a", &build).expect_err("it is in use");
        assert_eq!(error.kind(), Kind::TryAgain);
        assert!(error.to_string().contains("--at URL"), "{error}");
        drop(held);
    }
}
