// The last batches as bars by phase, and one of them in full.
import { useEffect, useMemo, useState } from "preact/hooks";
import { request } from "../../api/http";
import type { Batch } from "../../api/types";
import { bytes, count, micros, moment, plural } from "../../lib/format";
import { judge, PHASE_NAMES, PHASES } from "../../lib/slow";
import { ErrorNote, refusedOf } from "../../parts/error-note";
import { Nothing, Panel } from "../../parts/panel";
import { batchesVersion, log } from "../../store/live";
import { route, showPart } from "../../store/route";
import { durationsOf } from "../../store/batch-log";
import { Timeline } from "./timeline";

const WIDTHS = [100, 300, 1000, 10_000] as const;
const SLOWEST = 8;

export function Batches() {
  const version = batchesVersion.value;
  const [most, setMost] = useState<number>(WIDTHS[1]);
  const [held, setHeld] = useState<number | null>(null);
  const { part } = route.value;
  const selected = part === null ? null : Number(part);
  const select = (txid: number | null): void => showPart("batches", txid ?? undefined);
  const slowest = useMemo(() => slowestOf(most), [version, most]);
  if (log.ring.length === 0) return <Nothing>No batch was committed in this run yet.</Nothing>;
  return (
    <div class="batches">
      <div class="toolbar">
        <ul class="phases" aria-label="Phases">
          {PHASES.map((phase) => <li key={phase}><i class={`swatch bg-${phase}`} />{PHASE_NAMES[phase]}</li>)}
        </ul>
        <span class="segments end" role="group" aria-label="How many batches are shown">
          {WIDTHS.map((width) => <button type="button" key={width} aria-pressed={most === width} onClick={() => setMost(width)}>{count(width)}</button>)}
        </span>
        <button type="button" aria-pressed={held !== null} onClick={() => setHeld(held === null ? log.ring.last("txid") : null)}>{held === null ? "Hold" : "Go on"}</button>
      </div>
      <Timeline most={most} upto={held} selected={selected} onSelect={select} />
      <div class="columns">
        {selected !== null && Number.isFinite(selected) ? <OneBatch txid={selected} onSelect={select} /> : <Nothing>Select a batch: with the mouse, or with the arrow keys on the bars.</Nothing>}
        <Panel title="Slowest of these" note={plural(Math.min(most, log.ring.length), "batch", "batches")}>
          <ul class="bars">
            {slowest.map(({ txid, total }) => (
              <li key={txid}>
                <button type="button" class="quiet mono" onClick={() => select(txid)}>batch {count(txid)}</button>
                <span class="muted long">{judgeAt(txid)}</span>
                <b>{micros(total)}</b>
              </li>
            ))}
          </ul>
        </Panel>
      </div>
    </div>
  );
}

function slowestOf(most: number): { txid: number; total: number }[] {
  const found: { txid: number; total: number }[] = [];
  for (let index = Math.max(0, log.ring.length - most); index < log.ring.length; index++) {
    const total = log.total(index);
    if (found.length === SLOWEST && total <= (found.at(-1)?.total ?? 0)) continue;
    found.push({ txid: log.ring.get("txid", index), total });
    found.sort((a, b) => b.total - a.total);
    found.length = Math.min(found.length, SLOWEST);
  }
  return found;
}

function judgeAt(txid: number): string {
  const index = log.find(txid);
  return index < 0 ? "" : judge(log.durations(index), log.beside(index)).text;
}

function OneBatch({ txid, onSelect }: { txid: number; onSelect: (txid: number | null) => void }) {
  const [batch, setBatch] = useState<Batch | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const stop = new AbortController();
    setBatch(null);
    setError(null);
    request<Batch>(`/v1/batches/${txid}`, { signal: stop.signal }).then(setBatch, (why: unknown) => stop.signal.aborted || setError(why));
    return () => stop.abort();
  }, [txid]);
  const index = log.find(txid);
  const verdict = batch && judge(durationsOf(batch), index < 0 ? [] : log.beside(index));
  return (
    <Panel
      title={`Batch ${count(txid)}`}
      note={
        <>
          <button type="button" class="quiet" onClick={() => onSelect(txid - 1)} disabled={txid <= 1}>Earlier</button>
          <button type="button" class="quiet" onClick={() => onSelect(txid + 1)}>Later</button>
          <button type="button" class="quiet" onClick={() => onSelect(null)}>Close</button>
        </>
      }
    >
      {error !== null && <ErrorNote error={refusedOf(error)} />}
      {batch && verdict && (
        <>
          <p class={`note ${verdict.over.length > 0 ? "warn" : ""}`}>{verdict.text}</p>
          <dl class="facts">
            <dt>Committed</dt>
            <dd>{moment(batch.committed_at_ms)}</dd>
            {PHASES.filter((phase) => durationsOf(batch)[phase] > 0).map((phase) => (
              <Phase key={phase} name={PHASE_NAMES[phase]} tint={phase} took={durationsOf(batch)[phase]} usual={verdict.usual[phase]} />
            ))}
            <dt>Records</dt>
            <dd>{count(batch.records)} read, {count(batch.output_records)} given to sinks</dd>
            <dt>Changes</dt>
            <dd>{plural(batch.changes, "key")}, {bytes(batch.delta_bytes)}</dd>
            {Object.entries(batch.set_aside ?? {}).map(([operator, number]) => (
              <SetAside key={operator} operator={operator} number={number} />
            ))}
          </dl>
          <Ranges ranges={batch.ranges ?? []} />
        </>
      )}
    </Panel>
  );
}

function Phase({ name, tint, took, usual }: { name: string; tint: string; took: number; usual: number }) {
  return (
    <>
      <dt><i class={`swatch bg-${tint}`} />{name}</dt>
      <dd>{micros(took)}{Number.isFinite(usual) && <span class="muted">, usually {micros(usual)}</span>}</dd>
    </>
  );
}

function SetAside({ operator, number }: { operator: string; number: number }) {
  return (
    <>
      <dt>Set aside</dt>
      <dd class="trouble">{plural(number, "record")} at <span class="mono">{operator}</span></dd>
    </>
  );
}

const MOST_RANGES = 200;

function Ranges({ ranges }: { ranges: NonNullable<Batch["ranges"]> }) {
  if (ranges.length === 0) return null;
  return (
    <div class="scroll">
      <table class="dense">
        <thead>
          <tr><th scope="col">Source</th><th scope="col">Partition</th><th scope="col" class="number">From</th><th scope="col" class="number">To before</th></tr>
        </thead>
        <tbody>
          {ranges.slice(0, MOST_RANGES).map(({ source, partition, start, end }) => (
            <tr key={`${source} ${partition}`}>
              <td class="mono">{source}</td>
              <td class="mono long" title={partition}>{partition}</td>
              <td class="number">{count(start)}</td>
              <td class="number">{count(end)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

