#!/usr/bin/env bash
# Dependencies point one way: connectors -> engine -> state, and server -> engine. The state crate knows nothing of
# dataflow, the engine nothing of Kafka. The client knows only what goes over the wire. This asks cargo for the crates that each really uses.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

failed=0

# must_not_use CRATE REASON FORBIDDEN... : each FORBIDDEN is a whole name, as an extended regular expression.
must_not_use() {
  local crate=$1 reason=$2 tree name found
  shift 2
  tree=$(cargo tree -p "$crate" -e normal --all-features --prefix none </dev/null)
  # An empty or foreign answer must not pass for "uses nothing".
  if [ "$(head -n 1 <<<"$tree" | cut -d ' ' -f 1)" != "$crate" ]; then
    echo "check-dependencies: cargo tree said nothing of $crate" >&2
    exit 1
  fi
  for name in "$@"; do
    found=$(cut -d ' ' -f 1 <<<"$tree" | grep -E -x "$name" | sort -u || true)
    if [ -n "$found" ]; then
      failed=1
      echo "check-dependencies: $crate must not use ${found//$'\n'/, }: $reason" >&2
      echo "  see how it comes in: cargo tree -p $crate -e normal --all-features -i ${found%%$'\n'*}" >&2
    fi
  done
}

must_not_use tidemill-state "what survives knows nothing of dataflow or its users" \
  'timely(_.+)?' 'differential-dataflow' 'tidemill-engine' 'tidemill-connectors' 'tidemill'
must_not_use tidemill-engine "the engine knows nothing of Kafka, nor of any other connector" \
  'rdkafka(-sys)?' 'tidemill-connectors' 'tidemill'
must_not_use tidemill-engine "the engine knows nothing of HTTP and gRPC: the port is a crate of its own" \
  'axum(-core)?' 'hyper(-util)?' 'http(-body)?' 'h2' 'tonic' 'tower' 'tidemill-(server|proto|client)'
must_not_use tidemill-server "the port serves any topology, whatever its sources" \
  'rdkafka(-sys)?' 'tidemill-(connectors|client)' 'tidemill'
must_not_use tidemill-connectors "the connectors stand on the engine, not on the program" \
  'tidemill'
must_not_use tidemill-client "a program that asks compiles neither the engine nor RocksDB" \
  'tidemill-state' 'tidemill-engine' 'tidemill-connectors' 'tidemill' 'rocksdb' 'librocksdb-sys' 'timely(_.+)?' 'rdkafka(-sys)?' \
  'axum(-core)?' 'prost-derive'
must_not_use tidemill-proto "the messages are all that the client and the engine share" \
  'tidemill-(state|engine|connectors|client)' 'tidemill' '(lib)?rocksdb(-sys)?' 'timely(_.+)?' 'hyper' 'axum' 'prost-derive'

if [ "$failed" -ne 0 ]; then exit 1; fi
echo "dependencies point one way: connectors -> engine -> state"
