#!/usr/bin/env bash
# Compares benchmarks of this checkout with benches/baseline.json:
# `scripts/bench-baseline.sh [BENCH...]`.
#
# Runs each benchmark (all of the baseline without BENCH) and prints, for each of its entries, the
# measured figure beside the recorded one. Of several lines of a case the median counts. Exit code
# 1: a figure is worse than the recorded range by more than SLACK, or a case is missing.
#
# Ratios differ between machines and days by more than most changes do. So this finds what became
# far worse. Smaller differences need `make bench-compare BASE=<commit>`, which runs both sides on
# the same machine in turns.
#
# From the environment:
#   MACHINE  the machine of benches/baseline.json to compare with (vm)
#   SLACK    how much worse than the recorded range a figure may be (0.10)
#   FROM     a file with the output of the benchmarks; then nothing is run
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

fail() { printf 'bench-baseline: %s\n' "$*" >&2; exit 2; }

baseline=benches/baseline.json
machine=${MACHINE:-vm} slack=${SLACK:-0.10}
# value NAME : of each line of an entry on the standard input, the text of its field.
value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }
entries=$(grep -F "\"machine\": \"$machine\"" "$baseline") ||
  fail "$baseline has no machine \"$machine\""
if [ $# -eq 0 ]; then
  read -r -a all <<<"$(value bench <<<"$entries" | awk '!seen[$0]++' | tr '\n' ' ')"
  set -- "${all[@]}"
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
for bench in "$@"; do
  grep -qF "\"bench\": \"$bench\"" <<<"$entries" ||
    fail "$baseline has no \"$bench\" for the machine \"$machine\""
done
if [ -n "${FROM:-}" ]; then
  cat "$FROM" >"$output"
else
  for bench in "$@"; do cargo bench --bench "$bench" </dev/null | tee -a "$output"; done
fi

worse=no
for bench in "$@"; do
  grep -F "\"bench\": \"$bench\"" <<<"$entries" | awk -v slack="$slack" -v output="$output" '
    function field(name,  at, rest) {
      if (!match($0, "\"" name "\": *")) return ""
      rest = substr($0, RSTART + RLENGTH)
      if (substr(rest, 1, 1) == "\"") {
        rest = substr(rest, 2)
        return substr(rest, 1, index(rest, "\"") - 1)
      }
      match(rest, /^[0-9.]+/)
      return substr(rest, 1, RLENGTH) + 0
    }
    # The median of a figure over all lines that begin with `begin`.
    function measured(begin, name,  line, n, i, j, swap, numbers) {
      while ((getline line <output) > 0) {
        if (index(line " ", begin " ") == 1 && match(line, " " name "=[0-9.]+")) {
          numbers[++n] = substr(line, RSTART + length(name) + 2, RLENGTH - length(name) - 2) + 0
        }
      }
      close(output)
      for (i = 1; i < n; i++) {
        for (j = i + 1; j <= n; j++) {
          if (numbers[j] >= numbers[i]) continue
          swap = numbers[i]
          numbers[i] = numbers[j]
          numbers[j] = swap
        }
      }
      return n ? numbers[int((n + 1) / 2)] : ""
    }
    {
      begin = field("line")
      figure = field("figure")
      least = field("least")
      greatest = field("greatest")
      now = measured(begin, figure)
      if (now == "") verdict = "missing"
      else if (field("better") == "lower") {
        verdict = now > greatest * (1 + slack) ? "worse" : now < least ? "better" : "as recorded"
      } else {
        verdict = now < least * (1 - slack) ? "worse" : now > greatest ? "better" : "as recorded"
      }
      if (now == "") now = "?"
      printf "%-12s %s %s=%s, ", verdict, begin, figure, now
      printf "recorded %s to %s (%s)\n", least, greatest, field("date")
      if (verdict == "worse" || verdict == "missing") bad = 1
    }
    END { exit bad }
  ' || worse=yes
done
[ "$worse" = no ]
