// One key of a state: how it is asked for, and what is said of one that is not there.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Refusal } from "../api/http";
import { lookUp } from "../views/states/look-up";

let asked: string[] = [];

beforeEach(() => {
  asked = [];
  vi.stubGlobal("fetch", (path: string, { method, body }: RequestInit) => {
    asked.push(`${method} ${path} ${String(body ?? "")}`.trim());
    const [key = ""] = (JSON.parse(String(body)) as { keys: string[] }).keys;
    const values: Record<string, unknown> = { ".": 7, "a/b": 7, none: null, wide: "NaN" };
    return Promise.resolve(Response.json({ txid: 5, lineage: "a", rows: [key in values ? { key, value: values[key] } : { key }] }));
  });
});
afterEach(() => vi.unstubAllGlobals());

test.each([
  [".", 7],
  ["a/b", 7],
  ["none", null],
  ["wide", "NaN"],
])("the value of %s is there", async (key, value) => {
  expect(await lookUp("my pages", key)).toEqual({ txid: 5, key, value });
  expect(asked).toEqual([`POST /v1/state/my%20pages {"keys":["${key}"]}`]);
});

test.each(["c d", ".."])("%s has no value", async (key) => {
  const refused = await lookUp("pages", key).catch((why: unknown) => why);
  expect(refused).toBeInstanceOf(Refusal);
  expect((refused as Refusal).status).toBe(404);
  expect((refused as Refusal).said.what).toContain(`state "pages" has no value for key "${key}" at batch 5`);
  expect(asked.length).toBe(1);
});
