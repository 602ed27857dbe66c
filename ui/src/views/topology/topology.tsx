// The dataflow: drawn, or as a list, with the selected node beside it.
import { useMemo, useState } from "preact/hooks";
import type { NodeKind } from "../../api/types";
import { compact, micros, plural } from "../../lib/format";
import { picture, type Placed } from "../../lib/graph";
import { Nothing } from "../../parts/panel";
import { operatorRates, topology } from "../../store/live";
import { route, showPart } from "../../store/route";
import { Details } from "./details";
import { Graph } from "./graph";
import { KIND_NAMES, KIND_TEXTS, SHAPES } from "./kinds";

export function TopologyView() {
  const plan = topology.value;
  const [asList, setAsList] = useState(false);
  const drawn = useMemo(() => plan && picture(plan.nodes, innerWidth < 760), [plan]);
  if (!plan || !drawn) return <Nothing>Waiting for the dataflow.</Nothing>;
  const { part } = route.value;
  const selected = part === null ? null : Number(part);
  const select = (id: number | null): void => showPart("topology", id ?? undefined);
  const placed = drawn.nodes.find(({ node }) => node.id === selected);
  return (
    <div class="topology">
      <div class="toolbar">
        <span class="muted">{plural(plan.nodes.length, "node")}, {plural(drawn.edges.length, "edge")}</span>
        <span class="segments end">
          <button type="button" aria-pressed={!asList} onClick={() => setAsList(false)}>Drawn</button>
          <button type="button" aria-pressed={asList} onClick={() => setAsList(true)}>List</button>
        </span>
      </div>
      <div class="topology-body">
        {asList ? <List nodes={drawn.nodes} selected={selected} onSelect={select} /> : <Graph picture={drawn} selected={selected} onSelect={select} />}
        <aside aria-label="The selected node" aria-live="off">
          {placed ? <Details placed={placed} onSelect={select} /> : <Legend nodes={drawn.nodes} />}
        </aside>
      </div>
    </div>
  );
}

function Legend({ nodes }: { nodes: Placed[] }) {
  const numbers = new Map<NodeKind, number>();
  for (const { kind } of nodes) numbers.set(kind, (numbers.get(kind) ?? 0) + 1);
  const kinds = (Object.keys(KIND_NAMES) as NodeKind[]).filter((kind) => numbers.has(kind));
  return (
    <>
      <header class="panel-head"><h2>What is drawn</h2></header>
      <ul class="legend">
        {kinds.map((kind) => (
          <li key={kind}>
            <svg viewBox="-92 -36 184 72" width="46" height="18" aria-hidden="true"><g class={`node ${kind}`}><path class="shape" d={SHAPES[kind]} /></g></svg>
            <span><b>{KIND_NAMES[kind]}</b> <span class="muted">{numbers.get(kind)}</span><br />{KIND_TEXTS[kind]}</span>
          </li>
        ))}
      </ul>
      <p class="muted small">A thick line: records go to the worker that owns their key. Select a node for its details.</p>
    </>
  );
}

function List({ nodes, selected, onSelect }: { nodes: Placed[]; selected: number | null; onSelect: (id: number) => void }) {
  const rates = operatorRates.value;
  const known = rates.size > 0;
  return (
    <div class="scroll topology-list" tabIndex={0} role="region" aria-label="The nodes as a list">
      <table class="dense">
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">Kind</th>
            <th scope="col">Reads from</th>
            <th scope="col">In the program</th>
            {known && <th scope="col" class="number">Records/s</th>}
            {known && <th scope="col" class="number">Per batch</th>}
          </tr>
        </thead>
        <tbody>
          {nodes.map(({ node, kind, name }) => (
            <tr key={node.id} class={node.id === selected ? "selected" : ""}>
              <td><button type="button" class="quiet mono" aria-pressed={node.id === selected} onClick={() => onSelect(node.id)}>{name} #{node.id}</button></td>
              <td>{KIND_NAMES[kind]}</td>
              <td class="mono">{node.inputs.map((input) => `#${input}`).join(", ")}</td>
              <td class="mono">{node.at}</td>
              {known && <td class="number">{compact(rates.get(node.id)?.records)}</td>}
              {known && <td class="number">{micros(rates.get(node.id)?.perBatch)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
