// What the kinds of nodes are called, and the shapes that tell them apart.
import type { NodeKind } from "../../api/types";
import { NODE_HEIGHT, NODE_WIDTH } from "../../lib/graph";

export const KIND_NAMES: Record<NodeKind, string> = {
  source: "source",
  operator: "operator",
  exchange: "exchange",
  moved: "moved",
  state: "state",
  sink: "sink",
  query: "query",
};

export const KIND_TEXTS: Record<NodeKind, string> = {
  source: "Reads records from outside.",
  operator: "Works on records where they are.",
  exchange: "Records are first sent to the worker that owns their key.",
  moved: "Records are sent to other workers, not by key.",
  state: "Kept by key; each batch's changes are committed with it.",
  sink: "Writes what is committed to the outside, once.",
  query: "What is asked of the topology from outside.",
};

const [W, H] = [NODE_WIDTH / 2, NODE_HEIGHT / 2];

/** Around the middle of the node. */
export const SHAPES: Record<NodeKind, string> = {
  source: `M${-W} ${-H}H${W - 13}L${W} 0L${W - 13} ${H}H${-W}z`,
  sink: `M${-W} ${-H}H${W}V${H}H${-W}L${-W + 13} 0z`,
  operator: `M${-W + 4} ${-H}H${W - 4}q4 0 4 4V${H - 4}q0 4 -4 4H${-W + 4}q-4 0 -4 -4V${-H + 4}q0 -4 4 -4z`,
  exchange: `M${-W + 11} ${-H}H${W - 11}L${W} 0L${W - 11} ${H}H${-W + 11}L${-W} 0z`,
  moved: `M${-W + 11} ${-H}H${W}L${W - 11} ${H}H${-W}z`,
  state: `M${-W} ${-H + 6}c0 -8 ${W * 2} -8 ${W * 2} 0V${H - 6}c0 8 ${-W * 2} 8 ${-W * 2} 0z`,
  query: `M${-W + H} ${-H}H${W - H}a${H} ${H} 0 0 1 0 ${H * 2}H${-W + H}a${H} ${H} 0 0 1 0 ${-H * 2}z`,
};

/** The second rim of a state. */
export const STATE_RIM = `M${-W} ${-H + 6}c0 8 ${W * 2} 8 ${W * 2} 0`;
