// The joining to a server without a web socket: what is asked for, and when again, and what the page takes the server for.
import { afterEach, beforeEach, expect, test, vi } from "vitest";

type Answers = Record<string, unknown>;

/** What the server was asked for, in order. */
let asked: string[] = [];
let answers: Answers = {};
let sockets = 0;

/** An answer is to a path with what is wished or to all of the path. A path without an answer is refused as one that is not there yet. */
function answer(path: string): Promise<Response> {
  asked.push(path);
  const known = answers[path] ?? answers[path.split("?")[0] ?? ""];
  return Promise.resolve(known === undefined ? new Response("not now", { status: 503 }) : new Response(JSON.stringify(known)));
}

class NoSocket {
  onclose: (() => void) | null = null;
  constructor() {
    sockets += 1;
    setTimeout(() => this.onclose?.(), 1);
  }
  close(): void {}
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.resetModules();
  vi.stubGlobal("WebSocket", NoSocket);
  vi.stubGlobal("location", { protocol: "http:", host: "here" });
  vi.stubGlobal("document", { hidden: false, addEventListener: () => {} });
  vi.stubGlobal("fetch", answer);
  [asked, answers, sockets] = [[], {}, 0];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function connected() {
  const [{ connect }, live] = await Promise.all([import("../store/connection"), import("../store/live")]);
  connect();
  return live;
}

const RUNNING = { phase: "running", topology: "test", committed: 3, lineage: "a", incarnation: "b" };

test("a topology that starts is no server that does not answer", async () => {
  answers = { "/v1/status": { phase: "starting", topology: "test", waiting: "the broker" } };
  const { link, status } = await connected();
  await vi.advanceTimersByTimeAsync(5000);
  expect([link.value.mode, status.value?.waiting]).toEqual(["polling", "the broker"]);
  expect([new Set(asked), sockets > 2]).toEqual([new Set(["/v1/status"]), true]);
});

test("without a web socket batches and operators are asked for", async () => {
  const operators = (records: number) => ({ lineage: "a", operators: [{ id: 7, workers: [{ records, busy_us: 1 }] }] });
  answers = { "/v1/status": RUNNING, "/v1/batches": { lineage: "a", batches: [] }, "/v1/operators": operators(0), "/v1/topology": { nodes: [] }, "/v1/queries": { queries: [] } };
  const { link, operatorRates } = await connected();
  await vi.advanceTimersByTimeAsync(1500);
  answers["/v1/operators"] = operators(100);
  await vi.advanceTimersByTimeAsync(1500);
  expect(link.value.mode).toBe("polling");
  expect(operatorRates.value.get(7)?.records).toBeGreaterThan(0);
});

test("a server that is gone does not answer", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new Error("refused")));
  const { link } = await connected();
  await vi.advanceTimersByTimeAsync(100);
  expect(link.value.mode).toBe("down");
});

/** A socket that opens, has one status, and then nothing: not even its end, when it is closed. */
class StillSocket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  static answers = true;
  constructor() {
    sockets += 1;
    if (!StillSocket.answers) return;
    setTimeout(() => {
      this.onopen?.();
      this.onmessage?.({ data: JSON.stringify({ type: "status", status: RUNNING }) });
    }, 1);
  }
  send(): void {}
  close(): void {}
}

test("a server that stands still is said within six seconds, and is back with the next socket", async () => {
  vi.stubGlobal("WebSocket", StillSocket);
  answers = { "/v1/batches": { lineage: "a", batches: [] }, "/v1/topology": { nodes: [] }, "/v1/queries": { queries: [] } };
  const { link, heardAt } = await connected();
  await vi.advanceTimersByTimeAsync(100);
  expect(link.value.mode).toBe("live");
  StillSocket.answers = false;
  const heard = heardAt.value;
  while (link.value.mode === "live" && Date.now() - heard < 60_000) await vi.advanceTimersByTimeAsync(100);
  expect([link.value.mode, Date.now() - heard <= 6000]).toEqual(["down", true]);
  StillSocket.answers = true;
  await vi.advanceTimersByTimeAsync(2000);
  expect(link.value.mode).toBe("live");
});

test("without a web socket a server that stands still is said within six seconds", async () => {
  serving(3, LIMITS);
  const { link, heardAt } = await connected();
  await vi.advanceTimersByTimeAsync(3000);
  expect(link.value.mode).toBe("polling");
  const never = (_: string, { signal }: RequestInit): Promise<Response> =>
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new Error("aborted"))));
  vi.stubGlobal("fetch", never);
  const heard = heardAt.value;
  while (link.value.mode === "polling" && Date.now() - heard < 60_000) await vi.advanceTimersByTimeAsync(100);
  expect([link.value.mode, Date.now() - heard <= 6000]).toEqual(["down", true]);
  vi.stubGlobal("fetch", answer);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(link.value.mode).toBe("polling");
});

/** A running server with these batches, the newest first. */
function serving(committed: number, limits: readonly number[]): void {
  const batch = (txid: number) => ({ txid, records: 1, changes: 1, delta_bytes: 1, output_records: 0, fill_us: 1, compute_us: 1, commit_us: 1, committed_at_ms: txid });
  const newest = (limit: number) => Array.from({ length: Math.min(limit, committed) }, (_, index) => batch(committed - index));
  answers = { "/v1/status": { ...RUNNING, committed }, "/v1/operators": { lineage: "a", operators: [] }, "/v1/topology": { nodes: [] }, "/v1/queries": { queries: [] } };
  for (const limit of limits) answers[`/v1/batches?limit=${limit}`] = { lineage: "a", batches: newest(limit) };
}

const LIMITS = [200, 1000, 10_000];
const fills = (): number => asked.filter((path) => path === "/v1/batches?limit=10000").length;

test("the batches of before are asked for when somebody looks at them, and gaps at most each ten seconds", async () => {
  serving(12_000, LIMITS);
  const { log, completeBatches } = await connected();
  await vi.advanceTimersByTimeAsync(3000);
  expect([log.ring.length, fills()]).toEqual([1000, 0]);
  const leave = completeBatches();
  await vi.advanceTimersByTimeAsync(20_000);
  expect([log.ring.get("txid", 0), log.ring.last("txid"), fills()]).toEqual([2001, 12_000, 1]);

  // More than a poll brings; and the request for all fails once.
  serving(12_500, [200, 1000]);
  await vi.advanceTimersByTimeAsync(3000);
  expect([log.find(12_250), log.find(12_301) > 0, fills()]).toEqual([-1, true, 2]);
  serving(13_000, LIMITS);
  await vi.advanceTimersByTimeAsync(5000);
  expect(fills()).toBe(2);
  await vi.advanceTimersByTimeAsync(5000);
  expect([log.ring.get("txid", 0), log.find(12_250), log.ring.last("txid"), fills()]).toEqual([3001, 9249, 13_000, 3]);

  leave();
  serving(14_000, LIMITS);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(fills()).toBe(3);
});

test("a server is back once it has started", async () => {
  const { link } = await connected();
  const { returns } = await import("../store/returns");
  serving(3, LIMITS);
  await vi.advanceTimersByTimeAsync(3000);
  expect([link.value.mode, returns.value]).toEqual(["polling", 0]);
  const away = async (): Promise<void> => {
    vi.stubGlobal("fetch", () => Promise.reject(new Error("refused")));
    await vi.advanceTimersByTimeAsync(3000);
    expect(link.value.mode).toBe("down");
    vi.stubGlobal("fetch", answer);
  };
  await away();
  answers = { "/v1/status": { phase: "starting", topology: "test" } };
  await vi.advanceTimersByTimeAsync(10_000);
  expect([link.value.mode, returns.value]).toEqual(["polling", 0]);
  serving(4, LIMITS);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(returns.value).toBe(1);
  await away();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(returns.value).toBe(2);
});

test("a watched query that is refused for now is asked again, also if nothing more is committed", async () => {
  serving(3, LIMITS);
  await connected();
  const { watch } = await import("../store/watches");
  const heard: string[] = [];
  watch({ query: "top", arguments: 1, every_ms: 1000, onAnswer: () => heard.push("answer"), onError: () => heard.push("error") });
  await vi.advanceTimersByTimeAsync(1500);
  answers["/v1/query/top"] = { txid: 3, lineage: "a", result: [] };
  await vi.advanceTimersByTimeAsync(5000);
  expect([heard.at(0), heard.filter((one) => one === "answer").length]).toEqual(["error", 1]);
});
