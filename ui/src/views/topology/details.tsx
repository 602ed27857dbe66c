// A node in full: where it is in the program, what it reads, what flows through it by worker.
import { bytes, compact, count, micros, times } from "../../lib/format";
import { kindOf, type Placed } from "../../lib/graph";
import { shorten } from "../../lib/rust-type";
import { operatorRates, status, topology } from "../../store/live";
import { linkTo } from "../../store/route";
import { KIND_NAMES, KIND_TEXTS } from "./kinds";

interface Props {
  placed: Placed;
  onSelect: (id: number | null) => void;
}

export function Details({ placed, onSelect }: Props) {
  const { node, kind, name } = placed;
  const rate = operatorRates.value.get(node.id);
  const nodes = topology.value?.nodes ?? [];
  const readers = nodes.filter((one) => one.inputs.includes(node.id)).map((one) => one.id);
  return (
    <>
      <header class="panel-head">
        <h2><span class="mono">{name}</span> <span class="muted">{KIND_NAMES[kind]} #{node.id}</span></h2>
        <button type="button" class="quiet" onClick={() => onSelect(null)}>Close</button>
      </header>
      <p class="muted">{KIND_TEXTS[kind]}</p>
      <dl class="facts">
        <dt>In the program</dt>
        <dd class="mono">{node.at}</dd>
        <Others name="Reads from" ids={node.inputs} onSelect={onSelect} />
        <Others name="Read by" ids={readers} onSelect={onSelect} />
        <OfKind kind={kind} name={name} />
        {rate && (
          <>
            <dt>Records</dt>
            <dd>{compact(rate.records)} per second</dd>
            <dt>Time per batch</dt>
            <dd>{micros(rate.perBatch)}, over all workers</dd>
            {rate.skew !== null && <dt>Skew</dt>}
            {rate.skew !== null && <dd>the busiest worker has {times(rate.skew)} the average</dd>}
          </>
        )}
      </dl>
      {rate && <Workers workers={rate.workers} />}
    </>
  );
}

function Others({ name, ids, onSelect }: { name: string; ids: number[]; onSelect: (id: number) => void }) {
  const nodes = topology.value?.nodes ?? [];
  if (ids.length === 0) return null;
  return (
    <>
      <dt>{name}</dt>
      <dd>
        {ids.map((id) => {
          const node = nodes.find((one) => one.id === id);
          return <button type="button" class="quiet" key={id} onClick={() => onSelect(id)}>{node ? kindOf(node).name : "?"} #{id}</button>;
        })}
      </dd>
    </>
  );
}

function OfKind({ kind, name }: { kind: string; name: string }) {
  const now = status.value;
  const state = kind === "state" && now?.states?.find((one) => one.name === name);
  const sink = kind === "sink" && now?.sinks?.find((one) => one.name === name);
  const partitions = kind === "source" ? now?.partitions?.filter((one) => one.source === name) : undefined;
  return (
    <>
      {state && <dt>Keys</dt>}
      {state && <dd>{count(state.keys)}, <span class="mono">{shorten(state.key)} → {shorten(state.value)}</span> <a href={linkTo("states", name)}>Look into it</a></dd>}
      {sink && <dt>Backlog</dt>}
      {sink && <dd>{bytes(sink.backlog_bytes)}, published up to batch {count(sink.published)}</dd>}
      {partitions && <dt>Partitions</dt>}
      {partitions && <dd>{count(partitions.length)}, lag {compact(partitions.reduce((all, one) => all + (one.lag ?? 0), 0))}</dd>}
      {kind === "query" && <dt>Ask it</dt>}
      {kind === "query" && <dd><a href={linkTo("queries", name)}>{name}</a></dd>}
    </>
  );
}

function Workers({ workers }: { workers: { records: number; busy: number }[] }) {
  const most = Math.max(1e-9, ...workers.map((worker) => worker.records));
  return (
    <>
      <h3>By worker</h3>
      <ul class="bars">
        {workers.slice(0, 256).map((worker, index) => (
          <li key={index}>
            <span>worker {index}</span>
            <span class="muted">busy {Number((worker.busy * 100).toFixed(1))} %</span>
            <b>{compact(worker.records)}/s</b>
            <i aria-hidden="true" style={{ width: `${(100 * worker.records) / most}%` }} />
          </li>
        ))}
      </ul>
    </>
  );
}
