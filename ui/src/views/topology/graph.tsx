// The picture of the dataflow: one tab stop, arrow keys from node to node, Enter to select.
import { useState } from "preact/hooks";
import { neighbour, NODE_HEIGHT, NODE_WIDTH, type Direction, type Edge, type Picture, type Placed } from "../../lib/graph";
import { compact, micros, times } from "../../lib/format";
import { operatorRates } from "../../store/live";
import { KIND_NAMES, SHAPES, STATE_RIM } from "./kinds";
import { usePanZoom } from "./pan-zoom";

interface Props {
  picture: Picture;
  selected: number | null;
  onSelect: (id: number | null) => void;
}

const SKEWED = 1.5;

export function Graph({ picture, selected, onSelect }: Props) {
  const { svg, content, fit, zoom, reveal, dragged } = usePanZoom(picture.width, picture.height);
  const [current, setCurrent] = useState<number | null>(selected);
  const stop = picture.nodes.find(({ node }) => node.id === current) ?? picture.nodes[0];

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "+" || event.key === "=") return zoom(1.25);
    if (event.key === "-") return zoom(0.8);
    if (event.key === "0") return fit();
    if (event.key === "Escape") return onSelect(null);
    if (!stop || !(event.target instanceof SVGElement)) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onSelect(stop.node.id);
    } else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      const to = neighbour(picture.nodes, stop, event.key as Direction);
      setCurrent(to.node.id);
      svg.current?.querySelector<SVGGElement>(`[data-node="${to.node.id}"]`)?.focus();
      reveal(to.x, to.y, NODE_WIDTH);
    }
  };
  const click = (id: number | null): void => {
    if (dragged()) return;
    if (id !== null) setCurrent(id);
    onSelect(id);
  };
  return (
    <div class="graph" onKeyDown={onKeyDown}>
      <svg ref={svg} role="group" aria-label="The dataflow. The arrow keys go from node to node, Enter selects one." onClick={() => click(null)}>
        <defs>
          <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
            <path d="M0 0.5L8 4L0 7.5z" />
          </marker>
        </defs>
        <g ref={content}>
          {picture.edges.map((edge) => <Line key={`${edge.from}-${edge.to}`} edge={edge} near={selected !== null && (edge.from === selected || edge.to === selected)} />)}
          {picture.nodes.map((placed) => (
            <Node key={placed.node.id} placed={placed} selected={placed.node.id === selected} stop={placed === stop} onSelect={click} onFocus={setCurrent} />
          ))}
        </g>
      </svg>
      <div class="graph-buttons">
        <button type="button" class="icon" aria-label="Larger" title="Larger (+)" onClick={() => zoom(1.25)}>+</button>
        <button type="button" class="icon" aria-label="Smaller" title="Smaller (-)" onClick={() => zoom(0.8)}>−</button>
        <button type="button" aria-label="Show the whole dataflow" title="Show the whole dataflow (0)" onClick={fit}>Fit</button>
      </div>
    </div>
  );
}

function Line({ edge, near }: { edge: Edge; near: boolean }) {
  return <path class={`edge ${edge.way} ${near ? "near" : ""}`} d={edge.path} marker-end="url(#arrow)" />;
}

interface NodeProps {
  placed: Placed;
  selected: boolean;
  stop: boolean;
  onSelect: (id: number) => void;
  onFocus: (id: number) => void;
}

function Node({ placed, selected, stop, onSelect, onFocus }: NodeProps) {
  const { node, kind, name, x, y } = placed;
  const rate = operatorRates.value.get(node.id);
  const skewed = rate?.skew != null && rate.skew >= SKEWED;
  const label = [
    `${KIND_NAMES[kind]} ${name}, number ${node.id}`,
    rate && `${compact(rate.records)} records per second`,
    skewed && `skew ${times(rate.skew ?? 1)}`,
  ].filter(Boolean);
  const click = (event: MouseEvent): void => {
    event.stopPropagation();
    onSelect(node.id);
  };
  return (
    <g class={`node ${kind} ${selected ? "selected" : ""}`} transform={`translate(${x} ${y})`} data-node={node.id} role="button" tabIndex={stop ? 0 : -1} aria-pressed={selected} aria-label={label.join(", ")} onClick={click} onFocus={() => onFocus(node.id)}>
      <path class="shape" d={SHAPES[kind]} />
      {kind === "state" && <path class="rim" d={STATE_RIM} />}
      <text class="kind" x={0} y={-NODE_HEIGHT / 2 + 19}>{KIND_NAMES[kind]} #{node.id}</text>
      <text class="name" x={0} y={rate ? 6 : 12}>{cut(name)}</text>
      {rate && (
        <text class="rate" x={0} y={22}>
          {compact(rate.records)}/s
          {rate.perBatch !== null && <tspan class="more">  {micros(rate.perBatch)}</tspan>}
          {skewed && <tspan class="skew">  skew {times(rate.skew ?? 1)}</tspan>}
        </text>
      )}
      {rate && <rect class="busy" x={-NODE_WIDTH / 2 + 20} y={NODE_HEIGHT / 2 - 2} height={3} width={Math.min(1, rate.busy) * (NODE_WIDTH - 40)} />}
    </g>
  );
}

const cut = (name: string): string => (name.length > 19 ? `${name.slice(0, 18)}…` : name);
