// One batch in full: its phases against what is usual, why it was made anew, what each worker and sink had to do with it, what it covers.
import { useEffect, useState } from "preact/hooks";
import { request } from "../../api/http";
import type { Batch, WorkerShare } from "../../api/types";
import { bytes, count, micros, moment, plural } from "../../lib/format";
import { judge, PHASE_NAMES, PHASES } from "../../lib/slow";
import { ErrorNote, refusedOf } from "../../parts/error-note";
import { Panel } from "../../parts/panel";
import { durationsOf } from "../../store/batch-log";
import { batchesVersion, log } from "../../store/live";
import { useReturn } from "../../store/returns";

export function OneBatch({ txid, onSelect }: { txid: number; onSelect: (txid: number | null) => void }) {
  const [batch, setBatch] = useState<Batch | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [asked, ask] = useState(0);
  useReturn(error !== null, () => ask((number) => number + 1));
  void batchesVersion.value;
  const index = log.find(txid);
  // What has become known of it since it was asked for.
  const later = index < 0 ? 0 : log.ring.get("fold", index) + log.ring.get("publish", index);
  useEffect(() => {
    // One that is no longer kept is shown as it was.
    if (index < 0 && batch?.txid === txid) return;
    const stop = new AbortController();
    setBatch((shown) => (shown?.txid === txid ? shown : null));
    setError(null);
    request<Batch>(`/v1/batches/${txid}`, { signal: stop.signal }).then(setBatch, (why: unknown) => stop.signal.aborted || setError(why));
    return () => stop.abort();
    // One that is still to come is asked for again once it is there.
  }, [txid, later, index >= 0, asked]);
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
            <dd>{count(batch.records)} read{batch.bytes ? ` (${bytes(batch.bytes)})` : ""}, {count(batch.output_records)} given to sinks</dd>
            <dt>Changes</dt>
            <dd>{plural(batch.changes, "key")}, {bytes(batch.delta_bytes)}</dd>
            {Object.entries(batch.set_aside ?? {}).map(([operator, number]) => (
              <SetAside key={operator} operator={operator} number={number} />
            ))}
          </dl>
          <Retries retries={batch.retries ?? []} />
          <Workers shares={batch.workers ?? []} />
          <Sinks publish={batch.publish ?? []} />
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

/** Why the batch was thrown away and made anew. */
function Retries({ retries }: { retries: NonNullable<Batch["retries"]> }) {
  if (retries.length === 0) return null;
  return (
    <ul aria-label="Failures after which it was made anew">
      {retries.map(({ generation, error, at_ms }) => (
        <li key={generation} class="note warn">
          <b>Made anew</b> after generation {count(generation)} failed at {moment(at_ms)}: <span class="mono">{error}</span>
        </li>
      ))}
    </ul>
  );
}

const MOST_SHARES = 64;

function Workers({ shares }: { shares: WorkerShare[] }) {
  if (shares.length === 0) return null;
  const slowest = Math.max(1, ...shares.map((share) => share.compute_us));
  return (
    <>
      <h3>By worker</h3>
      <ul class="bars">
        {shares.slice(0, MOST_SHARES).map(({ worker, records, changes, delta_bytes, compute_us }) => (
          <li key={worker}>
            <span>worker {worker}</span>
            <span class="muted">{count(records)} read, {plural(changes, "key")} changed, {bytes(delta_bytes)}</span>
            <b>{micros(compute_us)}</b>
            <i aria-hidden="true" style={{ width: `${(100 * compute_us) / slowest}%` }} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Sinks({ publish }: { publish: NonNullable<Batch["publish"]> }) {
  if (publish.length === 0) return null;
  return (
    <>
      <h3>Confirmed by sinks</h3>
      <ul class="bars">
        {publish.map(({ sink, us }) => (
          <li key={sink}>
            <span class="mono long">{sink}</span>
            <span class="muted">after its commit</span>
            <b>{micros(us)}</b>
          </li>
        ))}
      </ul>
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

