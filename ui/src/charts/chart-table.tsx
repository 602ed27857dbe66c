// A chart's values as a table: at most sixty rows, evenly taken, the newest first.
import type { LineChartProps } from "./types";

const MOST_ROWS = 60;

type Props = Pick<LineChartProps, "title" | "times" | "lines" | "height" | "format" | "formatTime">;

export function ChartTable({ title, times, lines, height, format, formatTime }: Props) {
  const step = Math.max(1, Math.ceil(times.length / MOST_ROWS));
  const picked: number[] = [];
  for (let index = times.length - 1; index >= 0; index -= step) picked.push(index);
  return (
    <div class="scroll" style={{ height: `${height}px` }} tabIndex={0} role="region" aria-label={`${title}, as a table`}>
      <table class="dense">
        <thead>
          <tr>
            <th scope="col">Time</th>
            {lines.map((line) => <th scope="col" class="number" key={line.label}>{line.label}</th>)}
          </tr>
        </thead>
        <tbody>
          {picked.map((index) => (
            <tr key={times[index]}>
              <td>{formatTime(times[index] ?? 0)}</td>
              {lines.map((line) => <td class="number" key={line.label}>{format(line.values[index] ?? null)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
