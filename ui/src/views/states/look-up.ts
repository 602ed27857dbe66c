// One key of a state: sent in a body, since an address cannot hold each of them.
import { request, Refusal } from "../../api/http";
import type { Found } from "../../api/types";
import { textOf } from "../../parts/value";

interface Values {
  txid: number;
  rows: { key: unknown; value: unknown }[];
}

/** The value of a key; refused if the key has none. */
export async function lookUp(state: string, key: string): Promise<Found> {
  const path = `/v1/state/${encodeURIComponent(state)}`;
  const { txid, rows } = await request<Values>(path, { method: "POST", body: JSON.stringify({ keys: [key] }), exact: true });
  const [row] = rows;
  if (row && row.value !== null) return { txid, ...row };
  // Among several keys, one that is not there looks like one whose value is null: the key's own address tells them apart.
  if (!isStep(key)) return request<Found>(`${path}/${encodeURIComponent(key)}`, { exact: true });
  throw new Refusal(404, {
    what: `state "${state}" has no value for key ${JSON.stringify(textOf(row?.key ?? key))} at batch ${txid}, or its value is null`,
    do: "nothing, if the key was never given a value; else ask again after a later batch",
  });
}

/** Browsers take these for steps along an address, and leave them out of it. */
function isStep(key: string): boolean {
  return key === "." || key === "..";
}
