#!/usr/bin/env bash
# A real Apache Kafka of one node on this machine, for trying things out and for the tests.
# `scripts/kafka.sh help` lists the commands. It listens on 127.0.0.1 only.
set -euo pipefail
cd "$(dirname "$0")/.."

KAFKA=${CARGO_TARGET_DIR:-target}/kafka
LIBS=$KAFKA/libs
LOGGING=-Dlog4j2.configurationFile=kafka/log4j2.properties

say() { printf 'kafka: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

usage() {
  cat <<'USAGE'
scripts/kafka.sh COMMAND

  libs                            gets Kafka's jars if they are not here, and prints their folder
  serve [RUN OPTIONS]             runs a broker until Ctrl-C, and says when it accepts connections
  run [RUN OPTIONS]               becomes the broker: this process is java from then on

  topic create TOPIC [--partitions N] [--config NAME=VALUE]...
  topic list|describe|delete [TOPIC]
  write TOPIC                     produces the lines of the standard input; a tab ends the key
  read TOPIC [--exit-at-end]      prints key, tab and value of what is committed, from the beginning

The last six take --port N of a broker on this machine (9092).

Run options:
  --port N                        where clients connect (9092)
  --controller-port N             for the broker itself (the port plus 1)
  --data DIR                      made if it is not there, gone on with if it is (target/kafka/data)
  --proxied LISTEN:ADVERTISED     another listener; who connects to it is told that it is at port ADVERTISED
  --sasl PORT:USER:PASSWORD       another listener, which asks for that user (SASL/PLAIN)
  --set NAME=VALUE                a line of the broker's settings; the last of a name counts
  --temporary                     the broker lives as long as the standard input is open. Is it closed, because who
                                  holds it is gone, the broker is killed and DIR removed

KAFKA_OPTS is given to java.
USAGE
}

port() {
  [[ $1 =~ ^[0-9]+$ ]] && [ "$1" -ge 1 ] && [ "$1" -le 65535 ] || fail "\"$1\" is not a port"
  printf '%s' "$1"
}

# The jars. They come whole or not at all: several tests may ask at once, and any of them may be killed.
libs() {
  if cmp -s kafka/pom.xml "$LIBS/pom.xml"; then return; fi
  command -v java >/dev/null && command -v mvn >/dev/null || fail "java and maven are needed: scripts/setup.sh --with-kafka"
  mkdir -p "$KAFKA"
  exec 9>"$KAFKA/lock"
  if command -v flock >/dev/null; then flock 9; fi
  if ! cmp -s kafka/pom.xml "$LIBS/pom.xml"; then
    say "getting Kafka's jars"
    local new
    new=$(cd "$KAFKA" && pwd)/libs.new
    rm -rf "$new"
    mvn -B -q -Dstyle.color=never -f kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new" </dev/null >&2 \
      || fail "maven could not get them: its own message is above"
    cp kafka/pom.xml "$new"
    rm -rf "$LIBS"
    mv "$new" "$LIBS"
  fi
  exec 9>&-
}

# tool [JAVA OPTION...] CLASS ARGUMENT... : one of Kafka's command line tools.
tool() { java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "$LOGGING" -cp "$LIBS/*" "$@"; }

# write_settings : DIR/server.properties, new at every start.
write_settings() {
  local listeners="CLIENTS://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port"
  local advertised="CLIENTS://127.0.0.1:$port"
  if [ -n "$proxied" ]; then
    listeners+=",PROXIED://127.0.0.1:$(port "${proxied%%:*}")"
    advertised+=",PROXIED://127.0.0.1:$(port "${proxied#*:}")"
  fi
  if [ -n "$sasl" ]; then
    listeners+=",SASL://127.0.0.1:$(port "${sasl%%:*}")"
    advertised+=",SASL://127.0.0.1:${sasl%%:*}"
  fi
  {
    cat <<SETTINGS
# Written by scripts/kafka.sh at every start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT
log.dirs=$data/log

# A single node.
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0

# A killed broker that starts again waits until its former self counts as gone: 9 s by default.
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=100

# What is to be deleted, compacted or aborted is so within a second or two, instead of minutes.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=500
log.segment.delete.delay.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=500

# Little memory.
log.cleaner.dedupe.buffer.size=4194304
SETTINGS
    if [ -n "$sasl" ]; then
      local user=${sasl#*:}
      printf '%s\n' 'sasl.enabled.mechanisms=PLAIN'
      printf '%s' 'listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required'
      printf ' user_%s="%s";\n' "${user%%:*}" "${user#*:}"
    fi
    printf '%s\n' "${settings[@]+"${settings[@]}"}"
  } >"$data/server.properties"
}

# Kills the broker, and removes its data, when the standard input (3) ends. By then the broker may have died and its
# pid be another's: this is the broker only as long as it is the parent. Ctrl-C is meant for others.
watch_over() {
  exec >/dev/null 2>&1
  trap '' INT TERM HUP
  cat <&3
  exec 3<&-
  # $PPID is what it was at the start of a shell, so a new one is asked.
  exec sh -c 'if [ "$PPID" -eq "$1" ]; then kill -9 "$1"; sleep 0.5; rm -rf "$2"; fi' sh "$1" "$data"
}

run() {
  local port=9092 controller_port='' data=$KAFKA/data proxied='' sasl='' temporary='' settings=() ready=$1
  shift
  while [ $# -gt 0 ]; do
    if [ "$1" = --temporary ]; then temporary=yes; shift; continue; fi
    [ $# -ge 2 ] || fail "$1 lacks its value"
    case $1 in
      --port) port=$(port "$2") ;;
      --controller-port) controller_port=$(port "$2") ;;
      --data) data=$2 ;;
      --proxied) proxied=$2 ;;
      --sasl) sasl=$2 ;;
      --set) settings+=("$2") ;;
      *) fail "\"$1\" is not an option of run: scripts/kafka.sh help" ;;
    esac
    shift 2
  done
  : "${controller_port:=$((port + 1))}"
  libs
  mkdir -p "$data"
  data=$(cd "$data" && pwd)

  # Held by java from here on, for as long as it lives.
  exec 8>"$data/lock"
  if command -v flock >/dev/null && ! flock -n 8; then fail "a broker runs on $data already"; fi

  write_settings
  local options=(-Xmx512m -XX:+UseSerialGC) jvm
  # Tests are over before the better compiler pays.
  if [ -n "$temporary" ]; then options+=(-XX:TieredStopAtLevel=1); fi
  read -r -a jvm <<<"${KAFKA_OPTS:-}"
  options+=("${jvm[@]+"${jvm[@]}"}" "$LOGGING")

  if [ ! -e "$data/log/meta.properties" ]; then
    # Whoever was killed while formatting begins anew.
    rm -rf "$data/log"
    tool kafka.tools.StorageTool format -t "$(cluster_id)" -c "$data/server.properties" </dev/null >"$data/format.log" 2>&1 \
      || { cat "$data/format.log" >&2; fail "$data could not be formatted: Kafka's own message is above"; }
  fi
  if [ -n "$temporary" ]; then
    exec 3<&0
    watch_over $$ 8>&- &
    exec 3<&-
  fi
  if [ -n "$ready" ]; then say_when_ready $$ "$port" 8>&- & fi
  exec java "${options[@]}" -Dtidemill.log.to=file -Dtidemill.log.level=info -Dtidemill.log.file="$data/broker.log" \
    -cp "$LIBS/*" kafka.Kafka "$data/server.properties" </dev/null
}

# 16 random bytes, as Kafka writes them.
cluster_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'AZ' | tr -d '='; }

accepts() { (exec 7<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

say_when_ready() {
  until accepts "$2"; do
    kill -0 "$1" 2>/dev/null || exit 0
    sleep 0.2
  done
  local at=''
  if [ "$2" -ne 9092 ]; then at=" --port $2"; fi
  cat <<READY
Kafka accepts connections at 127.0.0.1:$2. Ctrl-C stops it. In another terminal:

  scripts/kafka.sh topic create words --partitions 4$at
  seq 100 | scripts/kafka.sh write words$at
  scripts/kafka.sh read words$at

READY
}

serve() {
  local taken=9092 i
  for ((i = 1; i < $#; i++)); do
    if [ "${!i}" = --port ]; then i=$((i + 1)); taken=${!i}; fi
  done
  if accepts "$(port "$taken")"; then fail "port $taken is taken: is a broker running already? Another port: make kafka KAFKA_PORT=9192"; fi
  run ready "$@"
}

# client COMMAND ARGUMENT... : a tool on a running broker. Takes --port out of the arguments, and looks whether it answers.
client() {
  local command=$1 port=9092 rest=()
  shift
  while [ $# -gt 0 ]; do
    if [ "$1" = --port ] && [ $# -ge 2 ]; then port=$(port "$2"); shift 2; else rest+=("$1"); shift; fi
  done
  libs
  accepts "$port" || fail "no broker answers at 127.0.0.1:$port. Start one: make kafka"
  "$command" "${rest[@]+"${rest[@]}"}"
}

topic() {
  local action=${1:-} name=()
  shift || true
  if [[ ${1:-} ]] && [[ $1 != -* ]]; then name=(--topic "$1"); shift; fi
  case $action in
    list) name=() ;;
    describe) ;;
    create | delete) [ ${#name[@]} -gt 0 ] || fail "topic $action lacks the topic's name" ;;
    *) fail "topic create, list, describe or delete: scripts/kafka.sh help" ;;
  esac
  tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" "--$action" "${name[@]+"${name[@]}"}" "$@"
}

write() {
  [ $# -eq 1 ] || fail "write TOPIC"
  tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "127.0.0.1:$port" --topic "$1" \
    --reader-property parse.key=true --reader-property ignore.error=true
}

read_topic() {
  local topic='' quiet=() more=()
  while [ $# -gt 0 ]; do
    case $1 in
      # It ends when nothing has come for longer than a consumer needs to find its partitions, and takes that for an error.
      --exit-at-end) quiet=(-Dtidemill.log.level=off) more=(--timeout-ms 3000) ;;
      *) topic=$1 ;;
    esac
    shift
  done
  [ -n "$topic" ] || fail "read TOPIC [--exit-at-end]"
  tool "${quiet[@]+"${quiet[@]}"}" org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "127.0.0.1:$port" --topic "$topic" \
    --from-beginning --isolation-level read_committed --command-property group.protocol=consumer --formatter-property print.key=true "${more[@]+"${more[@]}"}"
}

command=${1:-help}
shift || true
case $command in
  libs) libs; (cd "$LIBS" && pwd) ;;
  serve) serve "$@" ;;
  run) run '' "$@" ;;
  topic) client topic "$@" ;;
  write) client write "$@" ;;
  read) client read_topic "$@" ;;
  help | --help | -h) usage ;;
  *) fail "\"$command\" is not a command: scripts/kafka.sh help" ;;
esac
