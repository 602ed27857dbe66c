// The lines of a chart, and the properties of a chart of lines.
import type { Colour } from "./palette";

export interface Line {
  label: string;
  colour: Colour;
  values: (number | null)[];
}

export interface LineChartProps {
  title: string;
  /** Seconds since 1970, one for each value. */
  times: number[];
  lines: Line[];
  height: number;
  format: (value: number | null) => string;
  formatTime: (seconds: number) => string;
  utc?: boolean;
  stacked?: boolean;
  /** What the horizontal axis shows, in seconds. */
  span: { from: number; to: number };
  /** Charts with the same name have their cursors at the same time. */
  group: string;
  /** A range was dragged. */
  onBrush?: (from: number, to: number) => void;
  /** Shown beside the title instead of the newest values. */
  totals?: string[];
}
