// How uPlot draws the charts of this page.
import uPlot from "uplot";
import type { LineChartProps } from "./types";
import { colour, faded } from "./palette";

const FONT = "11px system-ui, sans-serif";
const two = (value: number): string => String(value).padStart(2, "0");

/** `props` gives the newest: the plot outlives them. */
export function optionsOf(props: () => LineChartProps, width: number, onCursor: (index: number | null) => void): uPlot.Options {
  const { lines, stacked, utc, group, onBrush, height } = props();
  const axis = {
    font: FONT,
    stroke: () => colour("muted"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height,
    padding: [10, 8, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: group },
      y: false,
      points: { show: !stacked, size: 6 },
      drag: { x: onBrush !== undefined, y: false, setScale: false },
    },
    select: { show: onBrush !== undefined, left: 0, top: 0, width: 0, height: 0 },
    tzDate: (seconds) => (utc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    scales: {
      x: { time: true, auto: false, range: () => [props().span.from, props().span.to] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
    },
    axes: [
      { ...axis, space: 64, size: 26, grid: { show: false }, values: (_, splits) => splits.map((split) => timeOfDay(split, utc === true)) },
      { ...axis, space: 30, size: 54, values: (_, splits) => splits.map((split) => props().format(split)) },
    ],
    series: [
      {},
      ...lines.map(
        (line): uPlot.Series => ({
          stroke: () => colour(line.colour),
          width: stacked ? 1 : 1.6,
          fill: () => faded(line.colour, stacked ? 0.5 : lines.length === 1 ? 0.12 : 0),
          points: { show: false },
        }),
      ),
    ],
    ...(stacked && { bands: lines.slice(1).map((_, index) => ({ series: [index + 1, index + 2] as [number, number] })) }),
    hooks: {
      setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select;
          if (wide < 4) return;
          const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + wide, "x")];
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          props().onBrush?.(from, to);
        },
      ],
    },
  };
}

/** Each line on top of those after it: the first is the whole. */
export function stackedOf(values: (number | null)[][]): (number | null)[][] {
  const stacked: (number | null)[][] = [];
  let below: (number | null)[] = [];
  for (const line of values.toReversed()) {
    below = line.map((value, index) => (value ?? 0) + (below[index] ?? 0));
    stacked.unshift(below);
  }
  return stacked;
}

function timeOfDay(seconds: number, utc: boolean): string {
  const at = new Date(seconds * 1000);
  const [hours, minutes, rest] = utc
    ? [at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds()]
    : [at.getHours(), at.getMinutes(), at.getSeconds()];
  return `${two(hours)}:${two(minutes)}${rest ? `:${two(rest)}` : ""}`;
}
