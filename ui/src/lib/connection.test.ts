// The joining to a server without a web socket: what is asked for, and what the page takes the server for.
import { afterEach, beforeEach, expect, test, vi } from "vitest";

type Answers = Record<string, unknown>;

/** What the server was asked for, in order. */
let asked: string[] = [];
let answers: Answers = {};
let sockets = 0;

/** A path without an answer is refused as one that is not there yet. */
function answer(path: string): Promise<Response> {
  asked.push(path);
  const known = answers[path.split("?")[0] ?? ""];
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

const RUNNING = { phase: "running", topology: "test", committed: 3, line: "a", incarnation: "b" };

test("a topology that starts is no server that does not answer", async () => {
  answers = { "/v1/status": { phase: "starting", topology: "test", waiting: "the broker" } };
  const { link, status } = await connected();
  await vi.advanceTimersByTimeAsync(5000);
  expect([link.value.mode, status.value?.waiting]).toEqual(["polling", "the broker"]);
  expect([new Set(asked), sockets > 2]).toEqual([new Set(["/v1/status"]), true]);
});

test("without a web socket batches and operators are asked for", async () => {
  const operators = (records: number) => ({ line: "a", operators: [{ id: 7, workers: [{ records, busy_us: 1 }] }] });
  answers = { "/v1/status": RUNNING, "/v1/batches": { line: "a", batches: [] }, "/v1/operators": operators(0), "/v1/topology": { nodes: [] }, "/v1/queries": { queries: [] } };
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
