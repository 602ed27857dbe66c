// The topology at a glance: figures, the last ten minutes, and what is in the way.
import { bytes, compact, count, duration, micros, moment } from "../../lib/format";
import { Figure, Nothing } from "../../parts/panel";
import { sum } from "../../lib/stats";
import { lagOf, latency } from "../../store/history";
import { batchesVersion, log, status } from "../../store/live";
import { serverNow } from "../../api/http";
import type { Status } from "../../api/types";
import { Charts } from "./charts";
import { Partitions, StatesShort } from "./partitions";
import { SetAside, Sinks, Trouble } from "./trouble";

export function Overview() {
  const now = status.value;
  if (!now) return <Nothing>Waiting for the server.</Nothing>;
  return (
    <div class="overview">
      <Figures now={now} />
      <Charts />
      <div class="columns">
        <div>
          <Partitions partitions={now.partitions ?? []} atEnd={now.sources_at_end === true} />
          <Sinks sinks={now.sinks ?? []} />
        </div>
        <div>
          <Trouble now={now} />
          <SetAside setAside={now.set_aside ?? {}} />
          <StatesShort states={now.states ?? []} />
        </div>
      </div>
    </div>
  );
}

function Figures({ now }: { now: Status }) {
  void batchesVersion.value;
  const recent = latency(log, serverNow());
  const last = recentOf();
  const { p50, p99 } = recent.batches > 0 ? recent : last;
  const keys = sum((now.states ?? []).map((state) => state.keys));
  const atEnd = now.sources_at_end === true;
  return (
    <dl class="figures">
      <Figure name="Records per second" value={compact(now.records_per_s)} note={`${count(now.records)} in this run`} />
      <Figure name="Batches per second" value={compact(now.batches_per_s)} note={`committed: ${count(now.committed)}`} />
      <Figure name="Batch latency" value={micros(p50)} note={`p99 ${micros(p99)}${recent.batches === 0 ? ", the last batches" : ""}`} />
      <Figure name="Lag" value={compact(lagOf(now))} note={atEnd ? "all sources at their end" : partitionsNote(now)} tone={trouble(now) ? "warn" : undefined} />
      <Figure name="Keys in states" value={compact(keys)} note={`${bytes((now.store_bytes ?? 0) + (now.unfolded_bytes ?? 0))} stored`} />
      <Figure name="Workers" value={count(now.workers)} note={`longest turn ${micros(now.longest_slice_us)}`} />
      <Figure name="Running for" value={now.started_at_ms ? duration(serverNow() - now.started_at_ms) : "–"} note={now.started_at_ms ? `since ${sinceText(now.started_at_ms)}` : undefined} />
    </dl>
  );
}

/** Of the last batches, however long ago they were. */
function recentOf(): { p50: number; p99: number } {
  const at = log.ring.last("at");
  return Number.isNaN(at) ? { p50: NaN, p99: NaN } : latency(log, at);
}

/** Today's times without the day. */
function sinceText(ms: number): string {
  const text = moment(ms);
  return text.slice(0, 10) === moment(Date.now()).slice(0, 10) ? text.slice(11) : text.slice(0, 16);
}

const trouble = (now: Status): boolean => (now.partitions ?? []).some((partition) => partition.trouble !== null);

function partitionsNote(now: Status): string {
  const number = now.partitions?.length ?? 0;
  return `over ${count(number)} ${number === 1 ? "partition" : "partitions"}`;
}
