#!/usr/bin/env bash
# Runs the tests, and prints how long each test binary took and the ten slowest tests: `scripts/test.sh [PART]`.
#
# PART is a folder or a file of tests: `kafka` (tests/kafka), `kafka/late` or `late` (tests/kafka/late.rs),
# `follow` (connectors/tests/follow.rs). Without it, all tests of the workspace run, those of the documentation too.
# It is plain `cargo test`, whose lines are read as they come. A test's time is therefore reckoned: libtest starts
# tests in the order of their names, one more whenever one has ended.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
# Many tests wait: for a broker, a timer, a child. More of them than cores may run at once.
cores=$(getconf _NPROCESSORS_ONLN)
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * cores))}

fail() { printf 'test: %s\n' "$*" >&2; exit 1; }

part=${1:-}
if [ -n "$part" ] && [ "${part%/*}" = "$part" ] && [ ! -e "tests/$part.rs" ] && [ ! -e "tests/$part/main.rs" ]; then
  # The file of a group, named without it.
  for path in tests/*/"$part.rs" tests/*/"$part/mod.rs"; do
    if [ -e "$path" ]; then part=$(basename "${path%%/"$part"*}")/$part; break; fi
  done
fi
if [ -z "$part" ]; then
  arguments=()
elif [ -e "tests/$part/main.rs" ] || { [ -e "tests/$part.rs" ] && [ "${part%/*}" = "$part" ]; }; then
  arguments=(--test "$part")
elif [ -e "tests/$part.rs" ] || [ -e "tests/$part/mod.rs" ]; then
  arguments=(--test "${part%%/*}" -- "${part#*/}::")
elif [ -e "connectors/tests/$part.rs" ]; then
  arguments=(--test "$part")
else
  fail "there is no part \"$part\" of the tests: see tests/ and connectors/tests/"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Passes the lines on, and writes them with their times to the log.
timed() {
  local line LC_ALL=C
  printf '%s begin\n' "${EPOCHREALTIME:-$(date +%s)}" >"$log"
  while IFS= read -r line; do
    printf '%s\n' "$line"
    printf '%s %s\n' "${EPOCHREALTIME:-$(date +%s)}" "$line" >>"$log"
  done
  printf '%s end\n' "${EPOCHREALTIME:-$(date +%s)}" >>"$log"
}

# Prints the times, longest first: of building, of each binary, of the ten slowest tests.
report() {
  LC_ALL=C awk -v threads="$RUST_TEST_THREADS" '
    function binary_ends(  i, j, name) {
      if (binary == "") return
      printf "A %8.1f s  %s\n", now - from, binary
      # In the order in which they were started.
      for (i = 2; i <= ran; i++) {
        name = names[i]
        for (j = i - 1; j > 0 && names[j] > name; j--) names[j + 1] = names[j]
        names[j + 1] = name
      }
      for (i = 1; i <= ran; i++) {
        printf "B %8.1f s  %s: %s\n", ended[names[i]] - (i <= threads ? begun : ends[i - threads]), binary, names[i]
      }
    }
    { now = $1 }
    NR == 1 { start = now }
    $2 == "Running" || $2 == "Doc-tests" || $2 == "end" {
      binary_ends()
      if (first == "" && $2 != "end") { first = now; printf "A %8.1f s  building\n", now - start }
      binary = $2 == "Running" ? $3 : $2 == "end" ? "" : $2 " " $3
      # Of unit tests, the name of the binary says whose they are.
      if (binary == "unittests") { binary = $5; sub(/^.*\//, "", binary); sub(/-[0-9a-f]*\)$/, "", binary); binary = binary " (" $4 ")" }
      from = now
      ran = 0
    }
    $2 == "running" && $4 ~ /^tests?$/ { begun = now }
    $2 == "test" && $NF ~ /^(ok|FAILED)$/ && binary !~ /^Doc-tests/ { names[++ran] = $3; ended[$3] = ends[ran] = now }
    $2 == "end" { printf "T %8.1f s in all, %d tests at once\n", now - start, threads }
  ' "$log" | sort -k1,1 -k2,2gr >"$log.times"
  printf '\n=== times: '
  sed -n 's/^T *//p' "$log.times"
  sed -n 's/^A //p' "$log.times"
  printf '=== the ten slowest tests\n'
  # Not by `head`: it ends before the whole list is written, and that would be a failure.
  awk '/^B / && number++ < 10 { sub(/^B /, ""); print }' "$log.times"
  rm -f "$log.times"
}

# Debug assertions and overflow checks for the crates of this repository, not for their dependencies: those would all be
# compiled once more. What is built otherwise, for `make demo` or a benchmark, has neither.
checked=()
for crate in tidemill tidemill-client tidemill-codec tidemill-connectors tidemill-engine tidemill-proto tidemill-server \
  tidemill-state tidemill-harness tidemill-tests; do
  for check in debug-assertions overflow-checks; do
    checked+=(--config "profile.release.package.$crate.$check=true")
  done
done

code=0
# The programs that tests run.
programs() { cargo build --release --workspace --bins --examples "${checked[@]}"; }
tests() { cargo test --release --workspace --no-fail-fast "${checked[@]}" ${arguments[@]+"${arguments[@]}"}; }
# One stream for both, so that the lines stay in their order. A part is of the whole workspace too: one crate alone has
# other features, and its dependencies are compiled again.
{ programs && tests; } 2>&1 </dev/null | timed || code=$?
report
exit "$code"
