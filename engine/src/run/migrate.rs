//! The conversion of a store's rows at a start, by the migrations that the program declares.

use crate::dataflow::topology::Description;
use crate::table::placement::Placement;
use tidemill_state::migration::{Conversion, Plan};
use tidemill_state::store::Row;
use tidemill_state::{CrashPoint, Error, Points, Result, Store, fold, keys};

/// Returns the rows that the conversions of a plan make of a store, before anything is changed:
/// with each conversion, all rows of the new state, sorted as they are stored.
///
/// # Errors
/// Kind Config if a value is not of the type that its conversion takes, UserCode if a conversion
/// panics, or makes two keys the same.
pub(crate) fn convert(
    store: &Store,
    plan: &Plan,
    description: &Description,
) -> Result<Vec<Vec<Row>>> {
    plan.conversions.iter().map(|conversion| rows_of(store, conversion, description)).collect()
}

fn rows_of(store: &Store, conversion: &Conversion, description: &Description) -> Result<Vec<Row>> {
    let state = &conversion.state;
    let codec =
        description.codecs.iter().find(|codec| codec.decl().name == state.name).ok_or_else(
            || {
                Error::bug(format!(
                    "state \"{}\" is converted, but the program does not have it",
                    state.name
                ))
            },
        )?;
    let doing = format!("converting state \"{}\" into {}", state.name, state.shape());
    let placement = if state.together { Placement::Together } else { Placement::ByKey };
    let mut rows: Vec<Row> = Vec::new();
    store.scan(conversion.from, |key, value| {
        let (mut key, mut value) = (key.to_vec(), value.to_vec());
        for code in &conversion.code {
            (key, value) = description.conversions[*code](&key, &value)
                .map_err(|error| error.while_doing(&doing))?;
        }
        let group = keys::group_of(placement.hash(&key, store.key_groups()), store.key_groups());
        rows.push((group, key, value));
        Ok(true)
    })?;
    rows.sort_unstable();
    if let Some(twice) =
        rows.windows(2).find(|pair| (pair[0].0, &pair[0].1) == (pair[1].0, &pair[1].1))
    {
        let key = codec.key_to_json(&twice[0].1)?;
        return Err(Error::user_code(format!(
            "{doing}: two keys become {key}. Nothing was changed: give each its own"
        )));
    }
    Ok(rows)
}

/// Makes the new states. They are not recorded yet: a crash from here on leaves everything as it
/// was.
///
/// # Errors
/// Kind TryAgain if the disk fails.
pub(crate) fn make(
    store: &Store,
    plan: &Plan,
    converted: &[Vec<Row>],
    points: &Points,
) -> Result<()> {
    for migration in &plan.pending {
        tracing::info!("{migration}");
    }
    if plan.states.is_empty() {
        return Ok(());
    }
    // A later fold would bring the changes of what goes back.
    fold::fold(store, points)?;
    for (conversion, rows) in plan.conversions.iter().zip(converted) {
        store.fill(conversion.to, rows)?;
        points.reach(CrashPoint::MigrationWritten)?;
    }
    Ok(())
}
