// The last ten minutes: records per second, batch latency, lag.
import { useMemo } from "preact/hooks";
import { serverNow } from "../../api/http";
import { LineChart } from "../../charts/line-chart";
import { clock, compact, micros } from "../../lib/format";
import { HISTORY_S } from "../../store/history";
import { history, historyVersion } from "../../store/live";

const HEIGHT = 168;
/** What the charts show at least, in seconds. */
const LEAST_S = 120;
const formatTime = (seconds: number): string => clock(seconds * 1000);

export function Charts() {
  const version = historyVersion.value;
  const shown = useMemo(() => {
    const { ring } = history;
    const to = Math.max(serverNow() / 1000, ring.last("at") || 0);
    const first = ring.length > 0 ? ring.get("at", 0) : to;
    return {
      span: { from: Math.max(to - HISTORY_S, Math.min(first, to - LEAST_S)), to },
      times: ring.series("at") as number[],
      records: [{ label: "records/s", colour: "c1" as const, values: ring.series("records_per_s") }],
      latency: [
        { label: "p99", colour: "c2" as const, values: ring.series("p99") },
        { label: "p50", colour: "c1" as const, values: ring.series("p50") },
      ],
      lag: [{ label: "records", colour: "c3" as const, values: ring.series("lag") }],
    };
  }, [version]);
  const common = { times: shown.times, span: shown.span, height: HEIGHT, formatTime, group: "overview" };
  return (
    <div class="charts" role="group" aria-label="The last ten minutes">
      <LineChart title="Records per second" lines={shown.records} format={compact} {...common} />
      <LineChart title="Batch latency" lines={shown.latency} format={micros} {...common} />
      <LineChart title="Lag" lines={shown.lag} format={compact} {...common} />
    </div>
  );
}
