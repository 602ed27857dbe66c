// The strip in the head: a bar for each of the last batches, what the engine did above the water line, the reading below it.
import { batchesVersion, log } from "../store/live";
import { linkTo } from "../store/route";
import { micros, plural } from "../lib/format";
import { PHASES, type Phase } from "../lib/slow";
import { quantile } from "../lib/stats";
import { useCanvas } from "./canvas";
import { colour } from "./palette";

const STEP = 4;
const ABOVE: readonly Phase[] = PHASES.filter((phase) => phase !== "fill");

export function TideStrip() {
  const version = batchesVersion.value;
  const ref = useCanvas(draw, [version]);
  const shown = Math.min(200, log.ring.length);
  const totals = Array.from({ length: shown }, (_, back) => log.latency(log.ring.length - 1 - back));
  const label = shown === 0 ? "Batches: none yet" : `Batches: the median of the last ${plural(shown, "batch", "batches")} is ${micros(quantile(totals, 0.5))}`;
  return (
    <a class="tide" href={linkTo("batches")} aria-label={label} title={label}>
      <canvas ref={ref} aria-hidden="true" />
    </a>
  );
}

function draw(context: CanvasRenderingContext2D, width: number, height: number): void {
  const { ring } = log;
  const number = Math.min(ring.length, Math.floor(width / STEP));
  const water = Math.round(height * 0.64);
  const first = ring.length - number;
  const above: number[] = [];
  const below: number[] = [];
  for (let index = first; index < ring.length; index++) {
    above.push(ABOVE.reduce((all, phase) => all + ring.get(phase, index), 0));
    below.push(ring.get("fill", index));
  }
  const most = Math.max(1, quantile(above, 0.98)) * 1.15;
  const deepest = Math.max(1, quantile(below, 0.98)) * 1.15;
  for (let at = 0; at < number; at++) {
    const x = width - (number - at) * STEP;
    let top = water - 1;
    const squeeze = Math.min(1, most / (above[at] || 1));
    for (const phase of ABOVE) {
      const size = (ring.get(phase, first + at) / most) * squeeze * (water - 2);
      if (size <= 0) continue;
      context.fillStyle = colour(phase);
      context.fillRect(x, top - size, STEP - 1, Math.max(size, 0.75));
      top -= size;
    }
    context.fillStyle = colour("fill");
    context.fillRect(x, water + 1, STEP - 1, Math.max(0.75, Math.min(1, (below[at] ?? 0) / deepest) * (height - water - 2)));
  }
  context.fillStyle = colour("line");
  context.fillRect(0, water - 0.5, width, 1);
}
