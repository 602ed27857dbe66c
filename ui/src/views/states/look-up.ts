// One key of a state: sent in a body, since an address cannot hold each of them.
import { request, Refusal } from "../../api/http";
import type { Found } from "../../api/types";
import { textOf } from "../../parts/value";

interface Values {
  txid: number;
  /** A key that is not there has no value; null is one. */
  rows: { key: unknown; value?: unknown }[];
}

/** The value of a key; refused if the key has none. */
export async function lookUp(state: string, key: string): Promise<Found> {
  const path = `/v1/state/${encodeURIComponent(state)}`;
  const { txid, rows } = await request<Values>(path, { method: "POST", body: JSON.stringify({ keys: [key] }), exact: true });
  const [row] = rows;
  if (row && "value" in row) return { txid, key: row.key, value: row.value };
  throw new Refusal(404, {
    what: `state "${state}" has no value for key ${JSON.stringify(textOf(row?.key ?? key))} at batch ${txid}`,
    do: "nothing, if the key was never given a value; else ask again after a later batch",
  });
}
