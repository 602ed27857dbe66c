//! What the hot map keeps, gives and lets go of.

use super::*;
use std::collections::BTreeMap;
use std::ops::Bound;

fn hash(key: u64) -> u64 {
    crate::keys::hash_key(&key.to_be_bytes())
}

fn get(map: &HotMap<u64, u64>, key: u64, at: u64) -> Option<u64> {
    match map.get_at(hash(key), &key, Txid(at)) {
        Found::Value(value) => Some(*value),
        Found::Absent => None,
        Found::Cold => panic!("all keys are in memory"),
    }
}

/// Random puts and removals over batches; every held batch is compared with a copy of a sorted map.
#[test]
fn every_held_batch_can_be_read_exactly() {
    let mut map = HotMap::new(16, Txid::NONE);
    let mut versions = vec![BTreeMap::new()];
    let mut random = 1u64;
    let mut next = |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for txid in 1..=200u64 {
        let mut now: BTreeMap<u64, u64> = versions[versions.len() - 1].clone();
        for _ in 0..next(40) {
            let (key, value) = (next(50), next(1000));
            if value < 300 {
                map.update(Txid(txid), hash(key), key, |slot| *slot = None);
                now.remove(&key);
            } else {
                map.update(Txid(txid), hash(key), key, |slot| *slot = Some(value));
                now.insert(key, value);
            }
        }
        let changed = map.changed_in(Txid(txid));
        for change in map.changes(Txid(txid), 0..changed) {
            assert_eq!(change.old, versions[versions.len() - 1].get(change.key));
            assert_eq!(change.new, now.get(change.key));
        }
        assert_eq!(map.len(), now.len());
        versions.push(now);
        let oldest = txid.saturating_sub(3);
        while !map.release(Txid(oldest), 7) {}
        for at in oldest..=txid {
            for key in 0..50 {
                let expected = versions[usize::try_from(at).expect("small")].get(&key).copied();
                assert_eq!(get(&map, key, at), expected, "key {key} at {at} after {txid}");
            }
            let mut walked = BTreeMap::new();
            let mut walk = Walk::default();
            while !map.walk_at(&mut walk, Txid(at), 13, |key, value| {
                assert_eq!(walked.insert(*key, *value), None, "key {key} comes once");
                false
            }) {}
            assert_eq!(
                walked,
                versions[usize::try_from(at).expect("small")],
                "walked at {at} after {txid}"
            );
        }
    }
}

fn encode(key: &u64, into: &mut Vec<u8>) {
    *into = key.to_be_bytes().to_vec();
}

/// A walk and a scan in order of one old batch, in small pieces, between which batches are applied
/// that remove keys and put them in again.
#[test]
fn a_pinned_batch_is_read_exactly_while_others_are_applied() {
    let mut map = HotMap::new(4, Txid::NONE);
    let put = |map: &mut HotMap<u64, u64>, txid: u64, key: u64, value: Option<u64>| {
        map.update(Txid(txid), hash(key), key, |into| *into = value);
    };
    for key in 0..100 {
        put(&mut map, 1, key, Some(key));
    }
    for key in 0..100 {
        put(&mut map, 2, key, (key % 3 > 0).then_some(key + 1000));
    }
    map.release(Txid(1), usize::MAX);
    let expected: BTreeMap<u64, u64> =
        (0..100).filter(|key| key % 3 > 0).map(|key| (key, key + 1000)).collect();
    let (mut walk, mut walked) = (Walk::default(), BTreeMap::new());
    let (mut range, mut ranged) = (Range::default(), Vec::new());
    let (mut txid, mut left) = (2, true);
    while left {
        txid += 1;
        for key in 0..100 {
            put(&mut map, txid, key + txid % 2 * 50, (txid % 2 == 0).then_some(txid));
            // New keys come too, but fewer at once than are looked at.
            if key < 3 {
                put(&mut map, txid, 10_000 * txid + key, Some(txid));
            }
        }
        let mut calls = 0;
        let done = map.walk_at(&mut walk, Txid(2), 40, |key, value| {
            assert_eq!(walked.insert(*key, *value), None, "key {key} comes once");
            calls += 1;
            calls < 7
        });
        left = !done;
        if map.order(encode, 50) {
            let on = map.range_at(&range, Txid(2), 11, |_, key, value| {
                ranged.push((*key, *value));
                key % 5 > 0
            });
            match on {
                Some(from) => (range.from, left) = (from, true),
                None => range.end = Bound::Excluded(Vec::new()),
            }
        } else {
            left = true;
        }
        assert!(map.holds(Txid(2)));
    }
    assert_eq!(walked, expected);
    assert_eq!(ranged, expected.into_iter().collect::<Vec<_>>());
    assert!(map.kept_bytes(0) > 0);
    map.release(Txid(txid), usize::MAX);
    assert!(!map.holds(Txid(2)) && map.kept_bytes(0) == 0);
}

#[test]
fn ranges_and_prefixes_mean_what_they_say() {
    let mut map: HotMap<u64, u64> = HotMap::new(4, Txid(1));
    for key in [0u64, 1, 255, 256, 257, 511, 512] {
        map.restore(hash(key), key, Some(key));
    }
    assert!(map.order(encode, usize::MAX));
    let check = |range: Range, expected: &[u64]| {
        let mut seen = Vec::new();
        assert_eq!(
            map.range_at(&range, Txid(1), usize::MAX, |_, key, _| {
                seen.push(*key);
                true
            }),
            None
        );
        assert_eq!(seen, expected, "{range:?}");
    };
    let key = |key: u64| key.to_be_bytes().to_vec();
    check(Range::default(), &[0, 1, 255, 256, 257, 511, 512]);
    check(Range { prefix: vec![0, 0, 0, 0, 0, 0, 1], ..Range::default() }, &[256, 257, 511]);
    check(Range { from: Bound::Included(key(257)), ..Range::default() }, &[257, 511, 512]);
    check(
        Range {
            from: Bound::Excluded(key(257)),
            end: Bound::Excluded(key(512)),
            ..Range::default()
        },
        &[511],
    );
    check(
        Range { from: Bound::Included(key(2)), end: Bound::Included(key(255)), ..Range::default() },
        &[255],
    );
    check(
        Range {
            from: Bound::Included(key(1)),
            prefix: vec![0, 0, 0, 0, 0, 0, 1],
            ..Range::default()
        },
        &[256, 257, 511],
    );
    check(
        Range {
            from: Bound::Excluded(key(511)),
            prefix: vec![0, 0, 0, 0, 0, 0, 1],
            ..Range::default()
        },
        &[],
    );
}

#[test]
fn a_restored_value_has_no_past() {
    let mut map = HotMap::new(256, Txid(9));
    map.restore(hash(1), 1, Some(5));
    map.restore(hash(2), 2, Some(6));
    map.restore(hash(2), 2, None);
    assert_eq!((get(&map, 1, 9), get(&map, 2, 9), map.len()), (Some(5), None, 1));
    assert_eq!(map.changed_in(Txid(10)), 0);
}

#[test]
#[should_panic(expected = "batches are applied in order")]
fn batches_are_applied_in_order() {
    let mut map = HotMap::new(4, Txid::NONE);
    map.update(Txid(2), hash(1), 1u64, |slot| *slot = Some(1u64));
    map.update(Txid(1), hash(1), 1, |slot| *slot = Some(2));
}

#[test]
fn keys_are_counted_as_of_each_batch_that_is_not_released() {
    let mut map: HotMap<u64, u64> = HotMap::new(4, Txid(1));
    map.restore(hash(1), 1, Some(1));
    let put = |map: &mut HotMap<u64, u64>, txid: u64, key: u64, value: Option<u64>| {
        map.update(Txid(txid), hash(key), key, |into| *into = value)
    };
    put(&mut map, 2, 2, Some(1));
    put(&mut map, 2, 3, Some(1));
    // Batch 3 changes nothing here.
    put(&mut map, 4, 1, None);
    let counted = |map: &HotMap<u64, u64>, range: std::ops::RangeInclusive<u64>| {
        range.map(|at| map.len_at(Txid(at))).collect::<Vec<_>>()
    };
    assert_eq!(counted(&map, 1..=5), [1, 3, 3, 2, 2]);
    assert!(map.release(Txid(3), usize::MAX));
    assert_eq!(counted(&map, 3..=5), [3, 2, 2]);
}

#[test]
fn keys_that_differ_under_one_hash_are_noted() {
    let mut map = HotMap::new(16, Txid::NONE);
    for key in [1u64, 2, 1] {
        map.update(Txid(1), 7, key, |slot| *slot = Some(key));
    }
    assert_eq!((map.len(), map.alike()), (2, Some((&1, &2))));
    // The slot of a key that is gone may be another key's: here 3 lies where 2 was.
    map.update(Txid(2), 7, 2, |slot| *slot = None);
    assert!(map.release(Txid(2), usize::MAX));
    assert_eq!(map.alike(), None);
    map.update(Txid(3), hash(3), 3, |slot| *slot = Some(3));
    assert_eq!(map.alike(), None);
}

/// A state whose keys are all in one group of the store grows as any other: table by table.
#[test]
fn keys_of_one_group_are_spread_over_tables() {
    const KEYS: u64 = 100_000;
    for groups in [256u16, 7] {
        let group = crate::KeyGroup(5);
        // As the part of a hash that chooses the group is replaced where all keys are to be
        // together.
        let placed =
            |key: u64| hash(key) / u64::from(groups) * u64::from(groups) + u64::from(group.0);
        let mut map = HotMap::together(groups, group, Txid::NONE);
        for key in 0..KEYS {
            assert_eq!(crate::keys::group_of(placed(key), groups), group);
            map.update(Txid(1), placed(key), key, |slot| *slot = Some(key * 2));
        }
        let largest = map
            .tables
            .iter()
            .map(|table| table.slots.len() as u64)
            .max()
            .expect("there are tables");
        assert!(
            largest < 2 * KEYS / u64::from(groups),
            "{largest} of {KEYS} keys are in one table of {groups}"
        );
        let changes = map.changes(Txid(1), 0..map.changed_in(Txid(1)));
        assert_eq!(
            changes.filter(|change| change.group == group).count() as u64,
            KEYS,
            "the store's group is the same for all"
        );
        for key in (0..KEYS).step_by(97) {
            assert_eq!(map.get_at(placed(key), &key, Txid(1)), Found::Value(&(key * 2)));
        }
        assert!(matches!(map.get_at(placed(KEYS), &KEYS, Txid(1)), Found::Absent));
        let (mut walk, mut walked) = (Walk::default(), 0);
        while !map.walk_at(&mut walk, Txid(1), 1000, |_, _| {
            walked += 1;
            true
        }) {}
        assert_eq!(walked, KEYS);
    }
}
