#!/usr/bin/env bash
# Lets libFuzzer look for inputs that break a fuzz target: `scripts/fuzz.sh [TARGET [SECONDS]]`, every target in turn
# without one. The targets are those that tests run (fuzz/src); here they are instrumented, so that libFuzzer sees which
# branches an input takes. Needs a nightly toolchain and cargo-fuzz; compiles everything once more, RocksDB too.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
  echo "fuzz: cargo-fuzz or a nightly toolchain is not installed, so nothing was run. Install both:"
  echo "  rustup toolchain install nightly && cargo install --locked cargo-fuzz"
  echo "The same targets run over their corpus and over random input without them: make test PART=fuzz"
  exit 1
fi

known=$(ls fuzz/corpus)
targets=${1:-$known}
seconds=${2:-60}
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
# The versions of the workspace: cargo adds what libFuzzer needs.
cp Cargo.lock fuzz/libfuzzer/Cargo.lock
for target in $targets; do
  if ! grep -q -x "$target" <<<"$known"; then
    echo "fuzz: there is no target \"$target\"; there are: ${known//$'\n'/, }" >&2
    exit 1
  fi
  mkdir -p "$out/corpus/$target" "$out/found/$target"
  echo "=== $target, for $seconds s; an input that breaks it is kept in $out/found/$target"
  TIDEMILL_FUZZ_TARGET=$target cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer --target-dir "$out" any \
    "$out/corpus/$target" "fuzz/corpus/$target" \
    -- -max_total_time="$seconds" -max_len=4096 -timeout=10 -artifact_prefix="$out/found/$target/"
done
