// One key of a state: how it is asked for, and what is said of one that is not there.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Refusal } from "../api/http";
import { lookUp } from "../views/states/look-up";

let asked: string[] = [];

/** Of a key in the address it says that it is not there. */
beforeEach(() => {
  asked = [];
  vi.stubGlobal("fetch", (path: string, { method, body }: RequestInit) => {
    asked.push(`${method} ${path} ${String(body ?? "")}`.trim());
    const [key = ""] = body ? (JSON.parse(String(body)) as { keys: string[] }).keys : [];
    const rows = [{ key, value: key === "." || key === "a/b" ? 7 : null }];
    return Promise.resolve(body ? Response.json({ txid: 5, line: "a", rows }) : Response.json({ error: { what: "not there" } }, { status: 404 }));
  });
});
afterEach(() => vi.unstubAllGlobals());

test.each([".", "a/b"])("the value of %s is there", async (key) => {
  expect(await lookUp("my pages", key)).toEqual({ txid: 5, key, value: 7 });
  expect(asked).toEqual([`POST /v1/state/my%20pages {"keys":["${key}"]}`]);
});

test("what an address can hold is said by the server", async () => {
  await expect(lookUp("pages", "c d")).rejects.toMatchObject({ status: 404, said: { what: "not there" } });
  expect(asked[1]).toBe("GET /v1/state/pages/c%20d");
});

test("what an address cannot hold is said here", async () => {
  const refused = await lookUp("pages", "..").catch((why: unknown) => why);
  expect(refused).toBeInstanceOf(Refusal);
  expect((refused as Refusal).said.what).toContain('state "pages" has no value for key ".." at batch 5');
  expect(asked.length).toBe(1);
});
