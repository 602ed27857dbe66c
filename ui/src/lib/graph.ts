// The dataflow as a picture: where nodes and edges lie, and which node is next to which.
import { graphlib, layout as place } from "@dagrejs/dagre";
import type { NodeKind, PlanNode } from "../api/types";

export const NODE_WIDTH = 178;
export const NODE_HEIGHT = 60;

export interface Placed {
  node: PlanNode;
  kind: NodeKind;
  name: string;
  /** The middle of the node. */
  x: number;
  y: number;
}

export interface Edge {
  from: number;
  to: number;
  /** How records come to the other end: as they are, by key, or to other workers in another way. */
  way: "plain" | "keyed" | "moved";
  path: string;
}

export interface Picture {
  nodes: Placed[];
  edges: Edge[];
  width: number;
  height: number;
}

export function kindOf(node: PlanNode): { kind: NodeKind; name: string } {
  const [kind, name] = Object.entries(node.kind)[0] ?? ["operator", "?"];
  return { kind: kind as NodeKind, name };
}

/** `down` draws from the top to the bottom, for narrow screens. */
export function picture(nodes: readonly PlanNode[], down: boolean): Picture {
  const graph = new graphlib.Graph();
  graph.setGraph({ rankdir: down ? "TB" : "LR", nodesep: 22, ranksep: down ? 42 : 58, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(String(node.id), { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const node of nodes) for (const input of node.inputs) graph.setEdge(String(input), String(node.id));
  place(graph);
  const placed = nodes.map((node): Placed => {
    const { x = 0, y = 0 } = graph.node(String(node.id)) as { x?: number; y?: number };
    return { node, ...kindOf(node), x, y };
  });
  const edges = placed.flatMap(({ node, kind }) =>
    node.inputs.map((input): Edge => {
      const { points = [] } = graph.edge(String(input), String(node.id)) as { points?: { x: number; y: number }[] };
      return { from: input, to: node.id, way: wayInto(kind), path: curve(points) };
    }),
  );
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { nodes: placed, edges, width, height };
}

function wayInto(kind: NodeKind): Edge["way"] {
  if (kind === "state" || kind === "exchange") return "keyed";
  return kind === "moved" ? "moved" : "plain";
}

/** A smooth line: through the middles between the points, bent at the points. */
function curve(points: readonly { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  const last = rest.at(-1);
  if (!first || !last) return "";
  const at = ({ x, y }: { x: number; y: number }): string => `${x.toFixed(1)} ${y.toFixed(1)}`;
  let path = `M${at(first)}`;
  for (let index = 0; index + 1 < rest.length; index++) {
    const [bend, after] = [rest[index], rest[index + 1]];
    if (!bend || !after) continue;
    path += `Q${at(bend)} ${at({ x: (bend.x + after.x) / 2, y: (bend.y + after.y) / 2 })}`;
  }
  return `${path}L${at(last)}`;
}

export type Direction = "ArrowLeft" | "ArrowRight" | "ArrowUp" | "ArrowDown";

/** The nearest node in this direction; the same if there is none. */
export function neighbour(nodes: readonly Placed[], from: Placed, direction: Direction): Placed {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[direction] as [number, number];
  let [best, least] = [from, Infinity];
  for (const one of nodes) {
    const along = (one.x - from.x) * dx + (one.y - from.y) * dy;
    const across = Math.abs((one.x - from.x) * dy) + Math.abs((one.y - from.y) * dx);
    const cost = along + across * 2.5;
    if (along > 1 && cost < least) [best, least] = [one, cost];
  }
  return best;
}
