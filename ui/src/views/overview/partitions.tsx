// Where each partition is, those with trouble and with the most lag first, and how many keys the states have.
import { useState } from "preact/hooks";
import type { Partition, StateInfo } from "../../api/types";
import { count, plural } from "../../lib/format";
import { shorten } from "../../lib/rust-type";
import { Nothing, Panel } from "../../parts/panel";
import { linkTo } from "../../store/route";

const FEW = 8;
const MOST = 500;

export function Partitions({ partitions, atEnd }: { partitions: Partition[]; atEnd: boolean }) {
  const [all, setAll] = useState(false);
  const sorted = partitions.toSorted((a, b) => Number(b.trouble !== null) - Number(a.trouble !== null) || (b.lag ?? -1) - (a.lag ?? -1));
  const shown = sorted.slice(0, all ? MOST : FEW);
  return (
    <Panel title="Partitions" note={atEnd ? "All sources are at their end" : plural(partitions.length, "partition")}>
      {partitions.length === 0 ? (
        <Nothing>No partition is read.</Nothing>
      ) : (
        <div class="scroll">
          <table class="dense">
            <thead>
              <tr>
                <th scope="col">Source</th>
                <th scope="col">Partition</th>
                <th scope="col" class="number">Offset</th>
                <th scope="col" class="number">Lag</th>
                <th scope="col" class="number">Skipped</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((partition) => (
                <Row key={`${partition.source} ${partition.partition}`} partition={partition} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {partitions.length > FEW && (
        <button type="button" class="quiet" onClick={() => setAll(!all)}>{all ? "Show fewer" : `Show all ${count(partitions.length)}`}</button>
      )}
    </Panel>
  );
}

function Row({ partition }: { partition: Partition }) {
  const { source, partition: name, offset, lag, ended, skipped, trouble } = partition;
  return (
    <>
      <tr>
        <td class="mono">{source}</td>
        <td class="mono long" title={name}>{name}</td>
        <td class="number">{count(offset)}</td>
        <td class="number">{ended && lag === 0 ? <span class="muted">at end</span> : count(lag)}</td>
        <td class="number">{skipped ? count(skipped) : <span class="muted">0</span>}</td>
      </tr>
      {trouble && (
        <tr>
          <td colSpan={5} class="trouble">{trouble}</td>
        </tr>
      )}
    </>
  );
}

export function StatesShort({ states }: { states: StateInfo[] }) {
  const sorted = states.toSorted((a, b) => b.keys - a.keys).slice(0, FEW);
  const most = Math.max(1, sorted[0]?.keys ?? 0);
  return (
    <Panel title="States" note={plural(states.length, "state")}>
      {states.length === 0 && <Nothing>This topology keeps no state.</Nothing>}
      <ul class="bars">
        {sorted.map((state) => (
          <li key={state.name}>
            <a href={linkTo("states", state.name)} class="mono">{state.name}</a>
            <span class="muted mono long">{shorten(state.key)} → {shorten(state.value)}</span>
            <b>{count(state.keys)}</b>
            <i aria-hidden="true" style={{ width: `${(100 * state.keys) / most}%` }} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}
