// What is in the way: sinks with errors, retries with their reason, records that were set aside.
import { serverNow } from "../../api/http";
import type { Sink, Status } from "../../api/types";
import { bytes, count, duration, plural } from "../../lib/format";
import { sum } from "../../lib/stats";
import { Nothing, Panel } from "../../parts/panel";

export function Sinks({ sinks }: { sinks: Sink[] }) {
  return (
    <Panel title="Sinks" note={plural(sinks.length, "sink")}>
      {sinks.length === 0 ? (
        <Nothing>This topology writes to no sink.</Nothing>
      ) : (
        <div class="scroll">
          <table class="dense">
            <thead>
              <tr>
                <th scope="col">Sink</th>
                <th scope="col" class="number">Published</th>
                <th scope="col" class="number">Backlog</th>
                <th scope="col" class="number">Rebuilds</th>
              </tr>
            </thead>
            <tbody>{sinks.map((sink) => <SinkRow key={sink.name} sink={sink} />)}</tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function SinkRow({ sink }: { sink: Sink }) {
  return (
    <>
      <tr>
        <td class="mono">{sink.name}</td>
        <td class="number">{count(sink.published)}</td>
        <td class="number">{bytes(sink.backlog_bytes)}</td>
        <td class="number">{sink.rebuilds ? count(sink.rebuilds) : <span class="muted">0</span>}</td>
      </tr>
      {sink.error && (
        <tr>
          <td colSpan={4} class="trouble">
            {sink.error}
            {sink.error_since_ms !== null && ` (for ${duration(serverNow() - sink.error_since_ms)})`}
          </td>
        </tr>
      )}
    </>
  );
}

export function Trouble({ now }: { now: Status }) {
  const retries = Math.max(0, (now.generations ?? 1) - 1);
  const heldUp = now.queries?.held_up_by;
  const calm = retries === 0 && !now.last_error && !now.waiting && !heldUp;
  return (
    <Panel title="Errors and retries" note={retries > 0 ? `${plural(retries, "retry", "retries")} in this run` : "no retries in this run"}>
      {calm && <Nothing>Nothing has failed, and nothing is waited for.</Nothing>}
      {now.waiting && <p class="note warn"><b>The sources wait.</b> {now.waiting}</p>}
      {heldUp && <p class="note warn"><b>Queries are held up.</b> {heldUp}</p>}
      {now.last_error && (
        <p class={`note ${now.phase === "failed" ? "bad" : "warn"}`}>
          <b>{now.phase === "failed" ? "It failed." : "The last error."}</b> {now.last_error}
        </p>
      )}
      {retries > 0 && <p class="muted small">The dataflow was built {count(now.generations)} times. What was committed before is kept; nothing is counted twice.</p>}
    </Panel>
  );
}

export function SetAside({ setAside }: { setAside: Record<string, number> }) {
  const rows = Object.entries(setAside).sort(([, a], [, b]) => b - a);
  const total = sum(rows.map(([, number]) => number));
  if (rows.length === 0) return null;
  return (
    <Panel title="Records set aside" note={plural(total, "record")}>
      <ul class="bars warn">
        {rows.slice(0, 50).map(([operator, number]) => (
          <li key={operator}>
            <span class="mono long" title={operator}>{operator}</span>
            <span />
            <b>{count(number)}</b>
            <i aria-hidden="true" style={{ width: `${(100 * number) / (rows[0]?.[1] || 1)}%` }} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}
