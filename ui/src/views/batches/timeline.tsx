// Bars of the last batches by phase. Of more batches than there are pixels, the slowest of each few is drawn.
import { useCanvas } from "../../charts/canvas";
import { colour } from "../../charts/palette";
import { clock, count, micros } from "../../lib/format";
import { PHASES } from "../../lib/slow";
import { quantile } from "../../lib/stats";
import { batchesVersion, log } from "../../store/live";

interface Props {
  most: number;
  /** The newest batch that is shown; null for the newest there is. */
  upto: number | null;
  selected: number | null;
  onSelect: (txid: number) => void;
}

const AXIS = 54;
const BELOW = 20;

/** Which batches are shown, and how many of them share a bar. */
interface Layout {
  first: number;
  end: number;
  each: number;
  step: number;
}

function layoutOf({ most, upto }: Pick<Props, "most" | "upto">, width: number): Layout {
  const end = log.endAt(upto);
  const first = Math.max(0, end - most);
  const room = Math.max(1, width - AXIS);
  const each = Math.max(1, Math.ceil(Math.min(most, Math.max(1, end - first)) / (room / 2)));
  const bars = Math.max(1, Math.ceil((end - first) / each));
  return { first, end, each, step: Math.min(14, room / Math.max(bars, Math.min(most / each, 40))) };
}

export function Timeline(props: Props) {
  const { selected, onSelect } = props;
  const version = batchesVersion.value;
  const ref = useCanvas((context, width, height) => {
    draw(context, width, height, layoutOf(props, width), selected);
  }, [props.upto === null ? version : props.upto, props.most, selected]);
  const click = (event: MouseEvent): void => {
    // Computed anew: each new batch moves those that are there, also while what is drawn is held.
    const { first, end, each, step } = layoutOf(props, ref.current?.getBoundingClientRect().width ?? 0);
    const bar = Math.floor((event.offsetX - AXIS) / step);
    const from = first + bar * each;
    if (bar < 0 || from >= end) return;
    onSelect(log.ring.get("txid", slowestIn(from, Math.min(end, from + each))));
  };
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = selected === null ? log.endAt(props.upto) - 1 : log.find(selected) + by * (event.shiftKey ? 10 : 1);
    if (at >= 0 && at < log.ring.length) onSelect(log.ring.get("txid", at));
  };
  const newest = log.ring.length - 1;
  const label = `The last ${count(Math.min(props.most, log.ring.length))} batches by phase. The newest, batch ${count(log.ring.get("txid", newest))}, took ${micros(log.total(newest))}.`;
  return (
    <div class="timeline" tabIndex={0} role="img" aria-label={label} onKeyDown={key}>
      <canvas ref={ref} aria-hidden="true" onClick={click} />
    </div>
  );
}

function slowestIn(from: number, end: number): number {
  let slowest = from;
  for (let index = from + 1; index < end; index++) if (log.total(index) > log.total(slowest)) slowest = index;
  return slowest;
}

function draw(context: CanvasRenderingContext2D, width: number, height: number, { first, end, each, step }: Layout, selected: number | null): void {
  const shown: number[] = [];
  for (let from = first; from < end; from += each) shown.push(slowestIn(from, Math.min(end, from + each)));
  const totals = shown.map((index) => log.total(index));
  // One that is far slower than the others is cut off, so that the others can be seen.
  const most = Math.max(100, Math.min(Math.max(...totals, 0), 4 * quantile(totals, 0.9) || Infinity)) * 1.06;
  const floor = height - BELOW;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  for (let line = 0; line <= 4; line++) {
    const y = Math.round(floor - (floor - 8) * (line / 4)) + 0.5;
    context.fillStyle = colour("line");
    context.fillRect(AXIS, y, width - AXIS, 1);
    context.fillStyle = colour("muted");
    context.fillText(micros((most * line) / 4), AXIS - 6, y + 4);
  }
  shown.forEach((index, bar) => {
    const x = AXIS + bar * step;
    const wide = Math.max(1, step - (step > 3 ? 1 : 0));
    let top = floor;
    for (const phase of PHASES) {
      const size = Math.min(top - 8, (log.ring.get(phase, index) / most) * (floor - 8));
      if (size <= 0) continue;
      context.fillStyle = colour(phase);
      context.fillRect(x, top - size, wide, size);
      top -= size;
    }
    // Records that were set aside, and batches that a failure made anew, have a mark under the axis.
    const mark = log.ring.get("set_aside", index) > 0 ? "bad" : log.ring.get("retries", index) > 0 ? "warn" : null;
    if (mark) {
      context.fillStyle = colour(mark);
      context.fillRect(x, floor + 2, wide, 3);
    }
    if (selected !== null && log.ring.get("txid", index) === selected) {
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect(x - 1.5, top - 2, wide + 3, floor - top + 3);
    }
  });
  context.fillStyle = colour("muted");
  const [oldest, newest] = [shown[0], shown.at(-1)];
  if (oldest === undefined || newest === undefined) return;
  context.textAlign = "left";
  context.fillText(`${count(log.ring.get("txid", oldest))}, ${clock(log.ring.get("at", oldest))}`, AXIS, height - 5);
  context.textAlign = "right";
  const edge = Math.max(AXIS + 260, Math.min(width, AXIS + shown.length * step));
  context.fillText(`${count(log.ring.get("txid", newest))}, ${clock(log.ring.get("at", newest))}`, edge, height - 5);
}
