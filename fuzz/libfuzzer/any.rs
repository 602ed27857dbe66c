//! The target that `TIDEMILL_FUZZ_TARGET` names, under libFuzzer. One program for all: each would
//! link RocksDB and librdkafka once more.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tidemill_fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TIDEMILL_FUZZ_TARGET").expect("TIDEMILL_FUZZ_TARGET names a target");
    tidemill_fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
