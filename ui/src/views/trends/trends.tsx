// The demo's own view: how many edits there were in each minute of their own time, by kind, and the pages that were edited most.
import { useMemo, useState } from "preact/hooks";
import type { Colour } from "../../charts/palette";
import { LineChart } from "../../charts/line-chart";
import { count, plural } from "../../lib/format";
import { extent, minuteOf, overlap, trend, type Span } from "../../lib/trend";
import { ErrorNote } from "../../parts/error-note";
import { Nothing, Panel } from "../../parts/panel";
import { NONE, useFrom, useTrend, useWatch, type TrendAnswer } from "./answers";
import { Between, problemOf, type Draft } from "./between";

const HEIGHT = 190;
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

export function Trends() {
  const [brushed, setBrushed] = useState<Span | null>(null);
  const [more, setMore] = useState<"channel" | "namespace">("channel");
  const [draft, setDraft] = useState<Draft | null>(null);
  const newest = useFrom();
  const action = useTrend("action", newest.from);
  const robot = useTrend("robot", newest.from);
  const anonymous = useTrend("anonymous", newest.from);
  const other = useTrend(more, newest.from);
  const shown = [action, robot, anonymous];
  const whole = useMemo(() => wholeOf([...shown, other]), [action, robot, anonymous, other]);
  const error = [newest, ...shown, other].find((one) => one.error)?.error;
  if (!whole) return error ? <ErrorNote error={error} /> : <Nothing>Waiting for the first edits.</Nothing>;
  // The oldest edits are let go of: a part that was chosen may go with them.
  const part = brushed && overlap(brushed, whole);
  const span = part ?? whole;
  const total = trend(action.rows, span, BINS).total;
  const show = (wanted: Span | null): void => {
    setBrushed(wanted);
    setDraft(null);
  };
  const brush = (from: number, to: number): void => show({ from: Math.floor(from / 60) * 60, to: Math.ceil(to / 60) * 60 });
  return (
    <div class="trends">
      {error && <ErrorNote error={error} />}
      <div class="toolbar">
        <span class="total" aria-live="off"><b data-total={action.txid === null ? undefined : total}>{count(total)}</b> {total === 1 ? "edit" : "edits"} from {said(span.from)} to {said(span.to)} UTC</span>
        <span class="muted">as of batch {count(action.txid)}</span>
        <div class="end choose">
          <Between whole={whole} span={span} draft={draft} onDraft={setDraft} onSpan={setBrushed} />
          {part || problemOf(draft, whole) ? <button type="button" onClick={() => show(null)}>Show all</button> : <span class="muted small">or drag over a chart</span>}
        </div>
      </div>
      <div>
        {CHARTS.map(({ by, title }, index) => <Chart key={by} title={title} of={shown[index] ?? NONE} span={span} onBrush={brush} />)}
        <div class="toolbar">
          <span class="segments" role="group" aria-label="What the last chart shows">
            <button type="button" aria-pressed={more === "channel"} onClick={() => setMore("channel")}>Channel</button>
            <button type="button" aria-pressed={more === "namespace"} onClick={() => setMore("namespace")}>Namespace</button>
          </span>
        </div>
        <Chart title={more === "channel" ? "By channel" : "By namespace"} of={other} span={span} onBrush={brush} />
      </div>
      <TopPages />
    </div>
  );
}

/**
 * Of all answers: one may be of a newer batch than another, and none of its edits may be missing. But not what one of them was not
 * asked for any more: there the others would seem to have more.
 */
function wholeOf(answers: readonly TrendAnswer[]): Span | null {
  const all = extent(answers.flatMap(({ rows }) => rows));
  return all && overlap(all, { from: Math.max(...answers.map(({ from }) => from)), to: Infinity });
}

const said = (seconds: number): string => minuteOf(seconds).replace("T", " ");

function Chart({ title, of: { rows, txid }, span, onBrush }: { title: string; of: TrendAnswer; span: Span; onBrush: (from: number, to: number) => void }) {
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
  return (
    <div data-batch={txid}>
      <LineChart title={`${title}, edits in ${per}`} times={times} lines={lines} totals={totals} span={span} height={HEIGHT} format={count} formatTime={said} utc stacked group="trends" onBrush={onBrush} />
    </div>
  );
}

function TopPages() {
  const { answer, error } = useWatch("top", "", PAGES);
  const rows = answer && Array.isArray(answer.result) ? (answer.result as [string, number | bigint][]) : [];
  const most = Math.max(1, ...rows.map(([, edits]) => Number(edits)));
  return (
    <Panel title="Most edited pages" note={answer && `batch ${count(answer.txid)}`}>
      {error && <ErrorNote error={error} />}
      {!error && rows.length === 0 && <Nothing>None yet.</Nothing>}
      <ol class="bars pages">
        {rows.map(([page, edits]) => (
          <li key={page}>
            <span class="long" title={page}>{page}</span>
            <b>{count(edits)}</b>
            <i aria-hidden="true" style={{ width: `${(100 * Number(edits)) / most}%` }} />
          </li>
        ))}
      </ol>
    </Panel>
  );
}
