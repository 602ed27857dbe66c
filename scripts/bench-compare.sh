#!/usr/bin/env bash
# Compares a benchmark of this checkout with that of an older commit: `scripts/bench-compare.sh BASE [BENCH...]`.
#
# Builds both, runs them in turns, and compares the medians of one figure. The spread is the larger of the two
# interquartile ranges. If the difference of the medians lies within it, both sides also run once with their
# instructions counted (by perf, or by valgrind where the machine has no such counters), and those decide.
# Only threads other than the main one are counted: the main thread runs the yardstick.
# Exit code 1: this checkout reaches less than 0.98 of BASE.
#
# Without BENCH: word_count and kafka. From the environment:
#   RUNS     runs of each side (10)
#   LINES    lines that a run reads (the benchmark's own number; 500,000 for kafka)
#   CASE     filter of the benchmark, which must leave one case; required for benchmarks other than those two
#   FIGURE   name of the figure that is compared, higher is better; required likewise
#   LIMIT    seconds that one run may take (300; ten times that while instructions are counted)
#   COUNTED  lines that a run under valgrind reads (50,000): it is some fifty times slower
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

say() { printf 'bench-compare: %s\n' "$*" >&2; }
fail() { say "$@"; exit 2; }

[ $# -gt 0 ] || fail "which commit? make bench-compare BASE=<commit> [BENCH=<name>]"
base=$(git rev-parse --quiet --verify "$1^{commit}") || fail "\"$1\" is no commit of this repository"
shift
[ $# -gt 0 ] || set -- word_count kafka
runs=${RUNS:-10} limit=${LIMIT:-300}
[[ $runs =~ ^[1-9][0-9]*$ ]] || fail "RUNS=$runs is no number of runs"

mkdir -p "${CARGO_TARGET_DIR:-target}"
CARGO_TARGET_DIR=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
export CARGO_TARGET_DIR
# Not below this checkout: cargo would join the settings of both, and compile every dependency for doubled flags.
old=${XDG_CACHE_HOME:-$HOME/.cache}/tidemill/bench-compare/$base
if [ ! -e "$old/Cargo.toml" ]; then
  rm -rf "$old.new" "$old"
  mkdir -p "$old.new"
  git archive "$base" | tar -x -C "$old.new"
  mv "$old.new" "$old"
fi
# A target folder for each: cargo takes the crates of two checkouts for the same ones. What is compiled of the
# dependencies is linked, so that RocksDB is not compiled twice.
old_target=${XDG_CACHE_HOME:-$HOME/.cache}/tidemill/bench-compare/target-$base
if [ ! -e "$old_target/release/deps" ] && [ -e "$CARGO_TARGET_DIR/release/deps" ]; then
  mkdir -p "$old_target/release/deps"
  cp -al "$CARGO_TARGET_DIR"/release/{.fingerprint,build} "$old_target/release/" 2>/dev/null ||
    cp -a "$CARGO_TARGET_DIR"/release/{.fingerprint,build} "$old_target/release/"
  find "$CARGO_TARGET_DIR/release/deps" -maxdepth 1 -type f -name '*.*' ! -name '*tidemill*' -exec \
    sh -c 'into=$1; shift; cp -alt "$into" "$@" 2>/dev/null || cp -at "$into" "$@"' sh "$old_target/release/deps" {} +
  rm -rf "$old_target"/release/.fingerprint/*tidemill*
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# build FOLDER TARGET BENCH : prints the path of the program.
build() {
  (cd "$1" && CARGO_TARGET_DIR=$2 cargo bench --no-run --bench "$3" --message-format=json </dev/null) |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# figure FOLDER PROGRAM CASE FIGURE : runs the case, and prints its figure.
figure() {
  local out
  out=$(cd "$1" && timeout "$limit" "$2" "$3" </dev/null) || fail "$2 \"$3\" failed, or took more than $limit s"
  out=$(grep -F -- "$3" <<<"$out" | sed -n "s/.* $4=\([0-9.]*\).*/\1/p" | head -n 1)
  [ -n "$out" ] || fail "$2 \"$3\" prints no $4"
  printf '%s\n' "$out"
}

# quartiles FILE : prints the first quartile, the median and the third of its numbers.
quartiles() {
  sort -g "$1" | awk '{ n[NR] = $1 }
    function at(q,  p, low) { p = 1 + (NR - 1) * q; low = int(p); return n[low] + (p - low) * (n[low < NR ? low + 1 : NR] - n[low]) }
    END { print at(0.25), at(0.5), at(0.75) }'
}

# counter : prints the tool that counts instructions here, or nothing.
counter() {
  if perf stat -e instructions:u true 2>&1 | grep -q '[0-9] *instructions:u'; then
    echo perf
  elif command -v valgrind >/dev/null; then
    echo valgrind
  fi
}

# instructions TOOL FOLDER PROGRAM CASE : prints the millions of instructions of all threads but the main one.
instructions() {
  local most=$((10 * limit))
  rm -f "$scratch"/count*
  case $1 in
    perf)
      (cd "$2" && timeout "$most" perf record -q -e instructions:u -c 1000000 -o "$scratch/count" "$3" "$4") >/dev/null 2>"$scratch/said" ||
        fail "perf could not count: $(tail -n 3 "$scratch/said")"
      perf script -i "$scratch/count" -F pid,tid 2>/dev/null | awk '{ split($1, id, "/"); if (id[1] != id[2]) n++ } END { print n + 0 }'
      ;;
    valgrind)
      (cd "$2" && timeout "$most" valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$scratch/count.%p" "$3" "$4") >/dev/null 2>"$scratch/said" ||
        fail "valgrind could not count: $(tail -n 3 "$scratch/said")"
      # One file a thread; `-01` is the main one.
      for file in "$scratch"/count.*-*; do
        case $file in *-01) ;; *) sed -n 's/^totals: //p' "$file" ;; esac
      done | awk '{ n += $1 } END { printf "%.0f\n", n / 1e6 }'
      ;;
  esac
}

# compare BENCH : sets `slower` if this checkout is.
compare() {
  local bench=$1 case figure lines=${LINES:-} new_program old_program verdict tool new_count old_count run side
  case $bench in
    word_count) case="workers=2 batch_lines=20000 durability=sync" figure=words_per_s ;;
    kafka) case="case=kafka" figure=lines_per_s lines=${lines:-500000} ;;
    *) case=${CASE:-} figure=${FIGURE:-} ;;
  esac
  case=${CASE:-$case} figure=${FIGURE:-$figure}
  [ -n "$case" ] && [ -n "$figure" ] || fail "CASE and FIGURE are needed for $bench"
  if [ -n "$lines" ]; then export TIDEMILL_BENCH_LINES=$lines; else unset TIDEMILL_BENCH_LINES; fi
  new_program=$(build . "$CARGO_TARGET_DIR" "$bench")
  old_program=$(build "$old" "$old_target" "$bench")
  [ -n "$new_program" ] && [ -n "$old_program" ] || fail "there is no benchmark \"$bench\""
  : >"$scratch/new"; : >"$scratch/old"
  for ((run = 1; run <= runs; run++)); do
    # Whoever runs first changes from pair to pair.
    for side in $([ $((run % 2)) = 1 ] && echo old new || echo new old); do
      if [ "$side" = new ]; then figure . "$new_program" "$case" "$figure"; else figure "$old" "$old_program" "$case" "$figure"; fi >>"$scratch/$side"
    done
    say "$bench, run $run of $runs: base $(tail -n 1 "$scratch/old"), now $(tail -n 1 "$scratch/new")"
  done
  verdict=$(awk -v old="$(quartiles "$scratch/old")" -v new="$(quartiles "$scratch/new")" -v name="$bench $case $figure" 'BEGIN {
    split(old, o, " "); split(new, n, " ")
    ratio = n[2] / o[2]
    spread = (o[3] - o[1]) / o[2]; if ((n[3] - n[1]) / n[2] > spread) spread = (n[3] - n[1]) / n[2]
    off = ratio > 1 ? ratio - 1 : 1 - ratio
    printf "%s: base %.0f (%.0f to %.0f), now %.0f (%.0f to %.0f), ratio %.3f, spread %.3f\n", name, o[2], o[1], o[3], n[2], n[1], n[3], ratio, spread
    print (off <= spread ? "within" : ratio < 0.98 ? "slower" : "passed")
  }')
  head -n 1 <<<"$verdict"
  case $(tail -n 1 <<<"$verdict") in
    passed) return ;;
    slower)
      say "$bench: less than 0.98 of base"
      slower=yes
      return
      ;;
  esac
  tool=$(counter)
  if [ -z "$tool" ]; then
    say "$bench: the difference is within the spread, and instructions cannot be counted here (neither perf's counters nor valgrind): not decided"
    return
  fi
  if [ "$tool" = valgrind ]; then export TIDEMILL_BENCH_LINES=${COUNTED:-50000}; fi
  old_count=$(instructions "$tool" "$old" "$old_program" "$case")
  new_count=$(instructions "$tool" . "$new_program" "$case")
  [ "${old_count%.*}" -gt 0 ] && [ "${new_count%.*}" -gt 0 ] || fail "$tool has counted no instructions of $bench"
  if ! awk -v old="$old_count" -v new="$new_count" -v name="$bench $case" -v tool="$tool" 'BEGIN {
    ratio = old / new
    printf "%s: within the spread; by %s, base %.0f and now %.0f million instructions, ratio %.3f\n", name, tool, old, new, ratio
    exit ratio < 0.98
  }'; then
    say "$bench: base needs less than 0.98 of the instructions"
    slower=yes
  fi
}

slower=no
for bench in "$@"; do compare "$bench"; done
[ "$slower" = no ]
