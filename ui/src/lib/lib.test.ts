// What the views are computed from: numbers in words, rings, trends, verdicts, arguments, the joining to the server.
import { describe, expect, test } from "vitest";
import type { Status } from "../api/types";
import { BatchLog } from "../store/batch-log";
import { History, latency } from "../store/history";
import { curlOf, example, problemOf } from "./arguments";
import { bytes, compact, count, duration, micros } from "./format";
import { RateKeeper } from "./rates";
import { delayOf, next, START, type Link, type LinkEvent } from "./reconnect";
import { Ring } from "./ring";
import { parseType, shorten } from "./rust-type";
import { judge, type Durations } from "./slow";
import { asTable } from "./table";
import { extent, isTrend, minuteOf, overlap, secondsOf, spanBetween, trend, windowFrom, type TrendRow } from "./trend";

describe("numbers in words", () => {
  test.each([[1234567, "1,234,567"], [null, "–"], [NaN, "–"]])("count %s", (value, said) => expect(count(value)).toBe(said));
  test.each([[0, "0"], [999, "999"], [9877.6, "9.88k"], [999_600, "1M"], [12_345_678, "12.3M"]])("compact %s", (value, said) => expect(compact(value)).toBe(said));
  test.each([[0, "0 µs"], [24_572, "24.6 ms"], [1_500_000, "1.5 s"], [200e6, "3 min 20 s"]])("micros %s", (value, said) => expect(micros(value)).toBe(said));
  test.each([[14_134, "14.1 kB"], [7, "7 B"]])("bytes %s", (value, said) => expect(bytes(value)).toBe(said));
  test.each([[0, "0 s"], [61_000, "1 min 1 s"], [90_061_000, "1 d 1 h"]])("duration %s", (value, said) => expect(duration(value)).toBe(said));
});

describe("a ring", () => {
  const ring = new Ring<"a" | "b">(["a", "b"], 3);
  for (let at = 0; at < 5; at++) ring.push({ a: at, b: at === 3 ? null : at * 10 });
  test("keeps the newest", () => {
    expect([ring.length, ring.get("a", 0), ring.last("a"), ring.get("a", 3)]).toEqual([3, 2, 4, NaN]);
    expect(ring.series("b")).toEqual([20, null, 40]);
  });
  test("finds in a column that grows", () => expect([1, 2, 3, 9].map((value) => ring.lowerBound("a", value))).toEqual([0, 0, 1, 3]));
});

describe("a trend", () => {
  const rows: TrendRow[] = [["2015-09-12T00:47", "edit", 31], ["2015-09-12T00:49", "new", 2], ["2015-09-12T00:47", "new", 1], ["2015-09-12T00:49", "edit", 5]];
  const whole = { from: secondsOf("2015-09-12T00:47"), to: secondsOf("2015-09-12T00:50") };
  test("has every minute, also those without a row", () => {
    const { times, minutes, series, total } = trend(rows, whole, 100);
    expect([times.map(minuteOf), minutes, total]).toEqual([["2015-09-12T00:47", "2015-09-12T00:48", "2015-09-12T00:49"], 1, 39]);
    expect(series).toEqual([{ value: "edit", counts: [31, 0, 5], total: 36 }, { value: "new", counts: [1, 0, 2], total: 3 }]);
  });
  test("extends from the first minute to behind the last", () => expect([extent(rows), extent([])]).toEqual([whole, null]));
  test("of a part counts what is in it", () => expect(trend(rows, { ...whole, from: secondsOf("2015-09-12T00:48") }, 100).total).toBe(7));
  test("loses nothing in wider bins", () => {
    const { minutes, times, total } = trend(rows, whole, 1);
    expect([minutes, times.length <= 2, total]).toEqual([5, true, 39]);
  });
  test("of two spans is what they share", () => {
    expect(overlap(whole, { from: -Infinity, to: whole.from + 60 })).toEqual({ from: whole.from, to: whole.from + 60 });
    expect(overlap(whole, { from: whole.to, to: Infinity })).toBeNull();
  });
  test.each([
    ["2015-09-12T00:47", "2015-09-12T00:48", { from: whole.from, to: whole.from + 60 }],
    ["2015-09-12T00:47", "2015-09-13T00:00", { from: whole.from, to: secondsOf("2015-09-13T00:00") }],
    ["", "2015-09-12T00:48", "From must be a day and a time."],
    ["2015-09-12T00:47", "", "To must be a day and a time."],
    ["2015-09-12T00:48", "2015-09-12T00:47", "From must be before To."],
    ["2015-09-12T00:48", "2015-09-12T00:48", "From must be before To."],
    ["2015-09-12T00:50", "2015-09-12T00:51", "There is nothing then, only from 2015-09-12 00:47 to 2015-09-12 00:50."],
  ])("from %s to %s", (from, to, meant) => expect(spanBetween(from, to, whole)).toEqual(meant));
  test.each([["2015-09-12T00:47", "2015-09-10T23:00"], [["2015-09-12T23:59"], "2015-09-11T22:00"], [null, undefined], [[], undefined]])(
    "with its newest minute at %s begins at %s",
    (newest, from) => expect(windowFrom(newest)).toBe(from),
  );
  test("of a whole day has all of it", () => expect((windowFrom("2015-09-12T23:59") ?? "") <= "2015-09-12T00:00").toBe(true));
  test("is known from other answers", () => expect([isTrend(rows), isTrend([["a", 1]]), isTrend(3), isTrend([])]).toEqual([true, false, false, true]));
});

describe("why a batch was slow", () => {
  const usual: Durations = { fill: 50_000, compute: 300, commit: 400, fold: 0, publish: 0 };
  const beside = Array.from({ length: 20 }, () => usual);
  test("names the phase that was over its usual", () => {
    const verdict = judge({ ...usual, commit: 40_000, compute: 900 }, beside);
    expect(verdict.over).toEqual(["commit"]);
    expect(verdict.text).toContain("commit took 40 ms, 100× the usual 400 µs");
  });
  test("says when none was", () => expect(judge(usual, beside).over).toEqual([]));
  test("does not guess from too few", () => expect(judge(usual, beside.slice(0, 2)).text).toContain("too few"));
});

describe("types and arguments", () => {
  test("are shortened", () => expect(shorten("(compact_str::CompactString, alloc::vec::Vec<&'static str>)")).toBe("(text, Vec<text>)"));
  test("are taken apart", () => expect(parseType("(u64, core::option::Option<[u8; 4]>)")).toEqual({ name: "()", of: [{ name: "u64", of: [] }, { name: "Option", of: [{ name: "[]", of: [{ name: "u8", of: [] }] }] }] }));
  test.each([["u64", "10"], ["alloc::string::String", '""'], ["()", "null"], ["(alloc::string::String, u32)", '["",10]']])("an example of %s", (type, said) => expect(example(type)).toBe(said));
  test.each([
    ["10", "u64", null],
    ["-1", "u64", "0 or more"],
    ["300", "u8", "8 bits"],
    ["tide", "alloc::string::String", 'in quotes: "tide"'],
    ['["a", 1]', "(alloc::string::String, u64)", null],
    ['["a"]', "(alloc::string::String, u64)", "a list of 2"],
    ['["a", "b"]', "(alloc::string::String, u64)", "Argument 2"],
    ["", "()", "write null"],
    ["{}", "app::Own", null],
  ])("%s for %s", (text, type, problem) => {
    const said = problemOf(text, type);
    if (problem === null) expect(said).toBeNull();
    else expect(said).toContain(problem);
  });
  test("a command quotes what the shell would read", () => expect(curlOf("http://h", "a b", `"it's"`, true)).toBe(`curl -H "Authorization: Bearer $TOKEN" -X POST 'http://h/v1/query/a%20b' -d '"it'\\''s"'`));
});

test("results are tables if they have rows", () => {
  expect(asTable([["a", [1, 2]], ["b", [3, 4]]])).toEqual({ columns: ["1", "2", "3"], rows: [["a", 1, 2], ["b", 3, 4]] });
  expect(asTable([{ a: 1 }, { b: 2 }])).toEqual({ columns: ["a", "b"], rows: [[1, undefined], [undefined, 2]] });
  expect([asTable(3), asTable([]), asTable([1, [2]])]).toEqual([null, null, null]);
});

describe("the joining to the server", () => {
  const after = (...events: LinkEvent[]): Link => events.reduce(next, START);
  const lost = (at: number): LinkEvent => ({ type: "lost", at });
  test("remembers since when it is lost, and waits longer each time", () => {
    const links = [1, 2, 3, 4, 5, 9].map((times) => after(...Array.from({ length: times }, (_, time) => lost(100 + time))));
    expect(links.map(delayOf)).toEqual([500, 1000, 2000, 4000, 5000, 5000]);
    expect(links.every((link) => link.mode === "down" && link.since === 100)).toBe(true);
  });
  test("is well again at once", () => expect(after(lost(1), lost(2), { type: "opened" })).toEqual({ mode: "live", since: null, attempt: 0 }));
  test("waits for a token without trying", () => expect(after({ type: "refused" }, lost(1)).mode).toBe("locked"));
});

test("rates are of the last seconds, and begin anew with the totals", () => {
  const keeper = new RateKeeper();
  const sample = (at: number, committed: number, records: number[]) => ({ at, committed, operators: [{ id: 7, workers: records.map((number) => ({ records: number, busy_us: number })) }] });
  expect(keeper.add(sample(0, 0, [0, 0])).size).toBe(0);
  expect(keeper.add(sample(2000, 4, [300, 100])).get(7)).toMatchObject({ records: 200, skew: 1.5, perBatch: expect.closeTo(100) as number });
  expect(keeper.add(sample(3000, 5, [1, 1])).size).toBe(0);
});

test("skew is of what workers have to do behind an exchange, rates are of what came", () => {
  const keeper = new RateKeeper();
  const sample = (at: number, records: number, received: number[]) => ({ at, committed: 0, operators: [{ id: 7, workers: received.map((number) => ({ records, received: number, busy_us: 0 })) }] });
  keeper.add(sample(0, 0, [0, 0]));
  expect(keeper.add(sample(1000, 100, [30, 10])).get(7)).toMatchObject({ records: 200, skew: 1.5, workers: [{ records: 30 }, { records: 10 }] });
});

/** A batch of which as much is known as the lists tell. */
const batch = (txid: number) => ({ txid, records: 1, changes: 1, delta_bytes: 1, output_records: 0, fill_us: 10, compute_us: 20, commit_us: 30, committed_at_ms: txid });

test("batches are kept once, in order, and only the newest", () => {
  const log = new BatchLog();
  log.add([batch(3), batch(2), batch(1)]);
  log.add([batch(4), batch(3)]);
  expect([log.ring.length, log.find(3), log.find(9), log.total(0)]).toEqual([4, 2, -1, 60]);
  const done = { ...batch(2), fold_us: 7, publish: [{ sink: "a", us: 9 }, { sink: "b", us: 5 }] };
  log.add([done]);
  log.add([batch(2), { ...done, txid: -1 }]);
  expect([log.ring.length, log.durations(1), log.total(2)]).toEqual([4, { fill: 10, compute: 20, commit: 30, fold: 7, publish: 9 }, 60]);
  for (let txid = 5; txid <= 10_100; txid++) log.add([batch(txid)]);
  expect([log.ring.length, log.ring.get("txid", 0), log.beside(0).length]).toEqual([10_000, 101, 25]);
});

describe("a list of batches is merged", () => {
  const list = (...txids: number[]) => txids.toSorted((a, b) => b - a).map(batch);
  const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const logOf = (...txids: number[]): BatchLog => {
    const log = new BatchLog();
    log.add(list(...txids));
    return log;
  };
  const txids = (log: BatchLog): (number | null)[] => log.ring.series("txid");
  test("with older ones and those between in their places, and with newer ones", () => {
    const log = logOf(5, 6, 9);
    log.merge([{ ...batch(7), records: 70 }, ...list(3, 4, 5, 6, 8, 9, 10)]);
    expect([txids(log), log.ring.series("records")]).toEqual([range(3, 10), [1, 1, 1, 1, 70, 1, 1, 1]]);
  });
  test("and what is not in it stays", () => {
    const log = logOf(1, 2, 3, 8);
    log.merge(list(6, 7, 8));
    expect(txids(log)).toEqual([1, 2, 3, 6, 7, 8]);
  });
  test("and says more of those that are there, never less", () => {
    const log = logOf(2, 3);
    log.add([{ ...batch(2), fold_us: 7 }]);
    log.merge([{ ...batch(3), fold_us: 5, publish: [{ sink: "a", us: 9 }] }, ...list(1, 2)]);
    expect([1, 2].map((index) => log.durations(index))).toEqual([{ fill: 10, compute: 20, commit: 30, fold: 7, publish: 0 }, { fill: 10, compute: 20, commit: 30, fold: 5, publish: 9 }]);
  });
  test("into times that do not go back", () => {
    const log = new BatchLog();
    log.add([{ ...batch(1), committed_at_ms: 10_000 }, { ...batch(4), committed_at_ms: 12_000 }]);
    log.merge([{ ...batch(2), committed_at_ms: 9_900 }, { ...batch(3), committed_at_ms: 12_100 }]);
    expect(log.ring.series("at")).toEqual([10_000, 10_000, 12_100, 12_100]);
    // The clock was set back after batch 5.
    log.add([{ ...batch(7), committed_at_ms: 2_000 }]);
    log.merge([{ ...batch(5), committed_at_ms: 12_200 }, { ...batch(6), committed_at_ms: 1_990 }]);
    expect(log.ring.series("at")).toEqual([1_990, 1_990, 1_990, 1_990, 1_990, 1_990, 2_000]);
  });
  test("and the oldest give way", () => {
    const log = logOf(...range(5_001, 11_000), ...range(11_501, 12_000));
    log.merge(list(...range(1_001, 12_000)));
    expect(txids(log)).toEqual(range(2_001, 12_000));
    log.merge(list(...range(2_000, 12_001)));
    expect(txids(log)).toEqual(range(2_002, 12_001));
  });
  test("after a gap that is seen", () => {
    const log = new BatchLog();
    expect([log.add(list(1, 2)), log.add(list(2, 3)), log.add(list(5, 6)), log.add(list(4, 7)), log.merge(list(4, 8)), log.add(list(9, 11))]).toEqual([false, false, true, false, false, true]);
    expect([logOf().add(list(2)), logOf().merge(list(2, 3))]).toEqual([true, true]);
  });
});

describe("the last ten minutes", () => {
  const status: Status = { phase: "running", topology: "test", records_per_s: 1 };
  const at = (history: History): (number | null)[] => history.ring.series("at");
  test("do not take a fold for the time of its batch", () => {
    const log = new BatchLog();
    log.add([{ ...batch(1), fold_us: 5_000_000 }, batch(2)]);
    expect([latency(log, 10), log.total(0)]).toEqual([{ p50: 60, p99: 60, records: 2, batches: 2 }, 5_000_060]);
  });
  test("begin anew if the clock was set back, and not if it is a little off", () => {
    const [history, log] = [new History(), new BatchLog()];
    for (const now of [100_000, 101_000, 99_000]) history.add(status, log, now);
    expect(at(history)).toEqual([100, 101]);
    history.add(status, log, 50_000);
    history.add(status, log, 51_000);
    expect(at(history)).toEqual([50, 51]);
  });
  test("have the batches after it too", () => {
    const log = new BatchLog();
    log.add([{ ...batch(1), committed_at_ms: 90_000 }, { ...batch(2), committed_at_ms: 89_999 }, { ...batch(3), committed_at_ms: 50_000 }]);
    expect([log.ring.series("at"), latency(log, 50_000).batches]).toEqual([[50_000, 50_000, 50_000], 3]);
  });
});

test("the batches that are shown end with the one that is held", () => {
  const log = new BatchLog();
  for (let txid = 1; txid <= 10_005; txid++) log.add([batch(txid)]);
  expect([log.endAt(null), log.endAt(10_004), log.endAt(3)]).toEqual([10_000, 9_999, 0]);
});
