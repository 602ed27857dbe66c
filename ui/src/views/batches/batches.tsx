// The last batches as bars by phase, and the slowest of them.
import { useEffect, useMemo, useState } from "preact/hooks";
import { count, micros, plural } from "../../lib/format";
import { judge, PHASE_NAMES, PHASES } from "../../lib/slow";
import { Nothing, Panel } from "../../parts/panel";
import { batchesVersion, completeBatches, log } from "../../store/live";
import { route, showPart } from "../../store/route";
import { OneBatch } from "./one-batch";
import { Timeline } from "./timeline";

const WIDTHS = [100, 300, 1000, 10_000] as const;
const SLOWEST = 8;

export function Batches() {
  const version = batchesVersion.value;
  const [most, setMost] = useState<number>(WIDTHS[1]);
  const [wished, setHeld] = useState<number | null>(null);
  // One that is no longer kept cannot be held.
  const held = wished !== null && log.find(wished) >= 0 ? wished : null;
  const { part } = route.value;
  const selected = part === null ? null : Number(part);
  const select = (txid: number | null): void => showPart("batches", txid ?? undefined);
  useEffect(completeBatches, []);
  const slowest = useMemo(() => slowestOf(most, held), [version, most, held]);
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
        <Panel title="Slowest of these" note={plural(Math.min(most, log.endAt(held)), "batch", "batches")}>
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

function slowestOf(most: number, upto: number | null): { txid: number; total: number }[] {
  const found: { txid: number; total: number }[] = [];
  const end = log.endAt(upto);
  for (let index = Math.max(0, end - most); index < end; index++) {
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
  if (index < 0) return "";
  const retries = log.ring.get("retries", index);
  const anew = retries > 0 ? `Made anew ${plural(retries, "time")} after a failure. ` : "";
  return anew + judge(log.durations(index), log.beside(index)).text;
}
