// The demo's own view: how many edits there were in each minute of their own time, by kind, and the pages that were edited most.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Refused } from "../../api/types";
import type { Colour } from "../../charts/palette";
import { LineChart } from "../../charts/line-chart";
import { count, plural } from "../../lib/format";
import { extent, isTrend, minuteOf, trend, type Span, type TrendRow } from "../../lib/trend";
import { ErrorNote } from "../../parts/error-note";
import { Nothing, Panel } from "../../parts/panel";
import { watch, type Answer } from "../../store/watches";

const HEIGHT = 190;
const EVERY_MS = 1000;
const PAGES = 15;
/** The most bins of a chart, and the most series: the rest are added up. */
const BINS = 240;
const SERIES = 5;
const COLOURS: Colour[] = ["c1", "c2", "c3", "c4", "c5", "c6"];

const CHARTS = [
  { by: "action", title: "By action" },
  { by: "robot", title: "Bots and humans" },
  { by: "anonymous", title: "Anonymous and logged-in" },
] as const;

/** The newest answer of a query, asked again after commits. */
function useWatch(query: string, given: unknown): { answer: Answer | null; error: Refused | null } {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState<Refused | null>(null);
  const key = JSON.stringify(given);
  useEffect(() => {
    setAnswer(null);
    return watch({
      query,
      arguments: JSON.parse(key) as unknown,
      every_ms: EVERY_MS,
      onAnswer: (now) => {
        setAnswer(now);
        setError(null);
      },
      onError: setError,
    });
  }, [query, key]);
  return { answer, error };
}

function useTrend(by: string): { rows: TrendRow[]; txid: number | null; error: Refused | null } {
  const { answer, error } = useWatch("trend", ["", "", by]);
  const rows = useMemo(() => (answer && isTrend(answer.result) ? answer.result : []), [answer]);
  return { rows, txid: answer?.txid ?? null, error };
}

export function Trends() {
  const [brushed, setBrushed] = useState<Span | null>(null);
  const [more, setMore] = useState<"channel" | "namespace">("channel");
  const action = useTrend("action");
  const robot = useTrend("robot");
  const anonymous = useTrend("anonymous");
  const other = useTrend(more);
  const shown = [action, robot, anonymous];
  const whole = useMemo(() => extent(action.rows), [action.rows]);
  const error = [...shown, other].find((one) => one.error)?.error;
  if (error) return <ErrorNote error={error} />;
  if (!whole) return <Nothing>Waiting for the first edits.</Nothing>;
  const span = brushed ?? whole;
  const total = trend(action.rows, span, BINS).total;
  const brush = (from: number, to: number): void => setBrushed({ from: Math.floor(from / 60) * 60, to: Math.ceil(to / 60) * 60 });
  return (
    <div class="trends">
      <div class="toolbar">
        <span class="total" aria-live="off"><b data-total={total}>{count(total)}</b> {total === 1 ? "edit" : "edits"} from {said(span.from)} to {said(span.to)} UTC</span>
        <span class="muted">as of batch {count(action.txid)}</span>
        <span class="end">
          {brushed ? <button type="button" onClick={() => setBrushed(null)}>Show all</button> : <span class="muted small">Drag over a chart to see a part of it</span>}
        </span>
      </div>
      <div>
        {CHARTS.map(({ by, title }, index) => <Chart key={by} title={title} rows={shown[index]?.rows ?? []} span={span} onBrush={brush} />)}
        <div class="toolbar">
          <span class="segments" role="group" aria-label="What the last chart shows">
            <button type="button" aria-pressed={more === "channel"} onClick={() => setMore("channel")}>Channel</button>
            <button type="button" aria-pressed={more === "namespace"} onClick={() => setMore("namespace")}>Namespace</button>
          </span>
        </div>
        <Chart title={more === "channel" ? "By channel" : "By namespace"} rows={other.rows} span={span} onBrush={brush} />
      </div>
      <TopPages />
    </div>
  );
}

const said = (seconds: number): string => minuteOf(seconds).replace("T", " ");

function Chart({ title, rows, span, onBrush }: { title: string; rows: TrendRow[]; span: Span; onBrush: (from: number, to: number) => void }) {
  const { times, lines, totals, minutes } = useMemo(() => {
    const all = trend(rows, span, BINS);
    const first = all.series.slice(0, all.series.length > SERIES + 1 ? SERIES : SERIES + 1);
    const rest = all.series.slice(first.length);
    if (rest.length > 0) {
      const counts = all.times.map((_, bin) => rest.reduce((sum, one) => sum + (one.counts[bin] ?? 0), 0));
      first.push({ value: `${count(rest.length)} others`, counts, total: rest.reduce((sum, one) => sum + one.total, 0) });
    }
    return {
      times: all.times,
      minutes: all.minutes,
      lines: first.map((one, index) => ({ label: one.value, colour: COLOURS[index] ?? "c6", values: one.counts })),
      totals: first.map((one) => count(one.total)),
    };
  }, [rows, span.from, span.to]);
  const per = minutes === 1 ? "a minute" : minutes < 60 ? `${minutes} minutes` : plural(minutes / 60, "hour");
  return <LineChart title={`${title}, edits in ${per}`} times={times} lines={lines} totals={totals} span={span} height={HEIGHT} format={count} formatTime={said} utc stacked group="trends" onBrush={onBrush} />;
}

function TopPages() {
  const { answer, error } = useWatch("top", PAGES);
  const rows = answer && Array.isArray(answer.result) ? (answer.result as [string, number][]) : [];
  const most = Math.max(1, ...rows.map(([, edits]) => edits));
  return (
    <Panel title="Most edited pages" note={answer && `batch ${count(answer.txid)}`}>
      {error && <ErrorNote error={error} />}
      {!error && rows.length === 0 && <Nothing>None yet.</Nothing>}
      <ol class="bars pages">
        {rows.map(([page, edits]) => (
          <li key={page}>
            <span class="long" title={page}>{page}</span>
            <b>{count(edits)}</b>
            <i aria-hidden="true" style={{ width: `${(100 * edits) / most}%` }} />
          </li>
        ))}
      </ol>
    </Panel>
  );
}
