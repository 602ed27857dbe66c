// Lines or stacked areas over time, with the values under the cursor, a summary in words and the same as a table.
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { themeVersion } from "../store/theme";
import { ChartTable } from "./chart-table";
import { optionsOf, stackedOf } from "./plot-options";
import type { LineChartProps } from "./types";

export function LineChart(props: LineChartProps) {
  const { title, times, lines, height, format, formatTime, span } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [cursor, setCursor] = useState<number | null>(null);
  const [asTable, setAsTable] = useState(false);
  const id = useId();
  const shape = lines.map((line) => `${line.label}/${line.colour}`).join("|");
  const data = useMemo(() => dataOf(props), [times, lines]);

  useEffect(() => {
    const at = place.current;
    if (!at || asTable) return;
    const made = new uPlot(optionsOf(() => latest.current, at.clientWidth || 300, setCursor), dataOf(latest.current), at);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: at.clientWidth || 300, height: latest.current.height }));
    observer.observe(at);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, asTable, height]);
  useEffect(() => {
    plot.current?.batch(() => {
      plot.current?.setData(data, false);
      plot.current?.setScale("x", { min: span.from, max: span.to });
    });
  }, [data, span.from, span.to]);
  const version = themeVersion.value;
  useEffect(() => plot.current?.redraw(false), [version]);

  const index = cursor !== null && cursor < times.length ? cursor : null;
  const summary = lines.map((line, number) => `${line.label}: ${summaryOf(line.values, format, props.totals?.[number])}`).join(". ");
  return (
    <figure class="chart" aria-labelledby={`${id}-title`} aria-describedby={`${id}-summary`}>
      <figcaption>
        <span class="chart-title" id={`${id}-title`}>{title}</span>
        <span class="chart-values" aria-hidden="true">
          {index !== null && <time>{formatTime(times[index] ?? 0)}</time>}
          {lines.map((line, number) => (
            <span key={line.label}>
              <i class={`swatch bg-${line.colour}`} />
              {line.label} <b>{index !== null ? format(line.values[index] ?? null) : (props.totals?.[number] ?? format(lastOf(line.values)))}</b>
            </span>
          ))}
        </span>
        <button type="button" class="quiet" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
          Table<span class="unseen"> of {title}</span>
        </button>
      </figcaption>
      <p class="unseen" id={`${id}-summary`}>{summary}</p>
      {asTable ? (
        <ChartTable title={title} times={times} lines={lines} format={format} formatTime={formatTime} height={height} />
      ) : (
        <div class="plot" ref={place} style={{ height: `${height}px` }} tabIndex={0} role="img" aria-label={`${title}. ${summary}`} onKeyDown={(event) => move(event, plot.current)} onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })} />
      )}
    </figure>
  );
}

/** The arrow keys move the cursor. */
function move(event: KeyboardEvent, plot: uPlot | null): void {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!plot || !step) return;
  event.preventDefault();
  const times = plot.data[0];
  const from = plot.cursor.idx ?? (step > 0 ? -1 : times.length);
  const to = Math.min(times.length - 1, Math.max(0, from + step * (event.shiftKey ? 10 : 1)));
  const at = times[to];
  if (at !== undefined) plot.setCursor({ left: plot.valToPos(at, "x"), top: 10 });
}

function dataOf({ times, lines, stacked }: LineChartProps): uPlot.AlignedData {
  const values = lines.map((line) => line.values);
  return [times, ...(stacked ? stackedOf(values) : values)];
}

function lastOf(values: readonly (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

function summaryOf(values: readonly (number | null)[], format: (value: number | null) => string, total?: string): string {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "no values yet";
  const [least, most] = known.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const now = total !== undefined ? `total ${total}` : `now ${format(lastOf(values))}`;
  return `${now}, lowest ${format(least)}, highest ${format(most)}`;
}

