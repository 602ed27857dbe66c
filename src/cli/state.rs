//! `state`: the values of a stopped topology, from its folder, or of a running one, over its port.

use super::arguments::Place;
use super::listing::Listing;
use super::output::{Output, pretty, print};
use super::remote::{Remote, path_part};
use serde_json::{Value as Json, json};
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
        let listing = serde_json::to_value(&listing).map_err(|why| Error::bug(format!("the listing cannot be written as JSON: {why}")))?;
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
            store.get(id, group, &key)?.map(|value| codec.value_to_json(&value)).transpose()
        })?,
    };
    match value {
        Some(value) => print(&value.to_string()).map(|()| 0),
        None => {
            eprintln!("state \"{name}\" has no value for key \"{key}\"");
            Ok(NO_VALUE)
        }
    }
}

/// Prints every key and value, in the order of the keys.
pub(super) fn scan<F>(place: &Place, name: &str, limit: Option<u64>, build: &F) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let Where::Stopped(dir) = resolve(place)? else {
        return Err(Error::config(
            "a running topology cannot be scanned yet, that comes with queries: ask it for single keys with state get NAME KEY --at URL, or stop it and \
             scan its folder with --state DIR",
        ));
    };
    inspect(&dir, |store| {
        let (id, codec) = find(store, name, build)?;
        let mut output = Output::new();
        let mut left = limit.unwrap_or(u64::MAX);
        if left > 0 {
            store.scan(id, |key, value| {
                left -= 1;
                let line = json!({"key": codec.key_to_json(key)?, "value": codec.value_to_json(value)?});
                Ok(output.line(line)? && left > 0)
            })?;
        }
        output.end()
    })
}

enum Where {
    Stopped(PathBuf),
    Running(Remote),
}

fn resolve(place: &Place) -> Result<Where> {
    if let Some(url) = &place.at {
        return Remote::at(url).map(Where::Running);
    }
    // Not read by clap: there it would contradict --at.
    let state = place.state.clone().or_else(|| std::env::var_os("TIDEMILL_STATE").map(PathBuf::from));
    state.map(Where::Stopped).ok_or_else(|| {
        Error::config("which state? Give the folder of a stopped topology with --state DIR (or TIDEMILL_STATE), or the port of a running one with --at URL")
    })
}

/// Opens the store of a stopped topology, looks at it, and leaves it as it was.
fn inspect<R>(dir: &std::path::Path, look: impl FnOnce(&Store) -> Result<R>) -> Result<R> {
    let store = Store::inspect(dir).map_err(|error| match error.kind() {
        Kind::TryAgain => Error::try_again(format!("{error}; or ask the running one, with --at URL instead of --state")),
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
        return Err(Error::config(format!("there is no state \"{name}\" in {dir}; there are: {}", names.join(", "))));
    };
    let codecs = outline(build)?.codecs;
    let codec = codecs.into_iter().find(|codec| codec.decl().name == name).ok_or_else(|| {
        Error::config(format!("state \"{name}\" is in {dir}, but this program does not know it: use the program that wrote it"))
    })?;
    let decl = codec.decl();
    if decl != *recorded {
        return Err(Error::config(format!(
            "state \"{name}\" in {dir} is ({}) -> {}, but this program has it as ({}) -> {}: use the program that wrote it",
            recorded.key, recorded.value, decl.key, decl.value
        )));
    }
    Ok((*id, codec))
}

/// The value of a key of a running topology.
fn ask(remote: &Remote, name: &str, key: &str) -> Result<Option<Json>> {
    let answer = remote.get(&format!("/v1/state/{}/{}", path_part(name), path_part(key)))?;
    // Without a value the answer still names the batch; without the state it does not.
    if answer.status == 404 && answer.body["txid"].is_number() {
        return Ok(None);
    }
    let mut body = answer.or_error()?;
    Ok(Some(body["value"].take()))
}
