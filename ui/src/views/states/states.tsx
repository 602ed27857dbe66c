// The states: browsed page by page, or one key looked up, as of one committed batch.
import { useEffect, useState } from "preact/hooks";
import { request } from "../../api/http";
import type { Found, Page, StateInfo } from "../../api/types";
import { count, plural } from "../../lib/format";
import { isText, shorten } from "../../lib/rust-type";
import { ErrorNote, refusedOf } from "../../parts/error-note";
import { Nothing, Panel } from "../../parts/panel";
import { Value, textOf } from "../../parts/value";
import { isCurrent, status } from "../../store/live";
import { useReturn } from "../../store/returns";
import { linkTo, route } from "../../store/route";
import { lookUp } from "./look-up";

const ROWS = 200;

export function States() {
  const states = status.value?.states ?? [];
  const { part } = route.value;
  if (states.length === 0) return <Nothing>This topology keeps no state.</Nothing>;
  const chosen = states.find((state) => state.name === part) ?? states[0];
  return (
    <div class="aside-left">
      <nav aria-label="States">
        <ul class="choices">
          {states.map((state) => (
            <li key={state.name}>
              <a href={linkTo("states", state.name)} aria-current={state === chosen ? "true" : undefined}>
                <b class="mono">{state.name}</b>
                <span class="muted mono">{shorten(state.key)} → {shorten(state.value)}</span>
                <span class="number">{plural(state.keys, "key")}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {chosen && <div key={chosen.name}><Lookup state={chosen} /><Browse state={chosen} /></div>}
    </div>
  );
}

function Lookup({ state }: { state: StateInfo }) {
  const [key, setKey] = useState("");
  const [found, setFound] = useState<Found | null>(null);
  const [error, setError] = useState<unknown>(null);
  const look = async (event: Event): Promise<void> => {
    event.preventDefault();
    setFound(null);
    setError(null);
    try {
      setFound(await lookUp(state.name, key));
    } catch (why) {
      setError(why);
    }
  };
  return (
    <Panel title="Look a key up" note={<span class="mono">{shorten(state.key)}</span>}>
      <form class="toolbar" onSubmit={(event) => void look(event)}>
        <label class="field grow">
          Key
          <input class="mono" value={key} onInput={(event) => setKey(event.currentTarget.value)} placeholder={isText(state.key) ? "a text as it is" : "as JSON"} />
        </label>
        <button type="submit" class="primary">Look up</button>
      </form>
      <div aria-live="polite">
        {error !== null && <ErrorNote error={refusedOf(error)} />}
        {found && (
          <dl class="facts">
            <dt>Key</dt>
            <dd class="mono"><Value value={found.key} /></dd>
            <dt>Value</dt>
            <dd class="mono"><Value value={found.value} /></dd>
            <dt>As of</dt>
            <dd>batch {count(found.txid)}</dd>
          </dl>
        )}
      </div>
    </Panel>
  );
}

/** Where a page begins: behind a key, as of the batch of the first page. */
interface From {
  after: string;
  at: number;
}

function Browse({ state }: { state: StateInfo }) {
  const [prefix, setPrefix] = useState("");
  const [trail, setTrail] = useState<From[]>([]);
  const [page, setPage] = useState<Page | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [asked, ask] = useState(0);
  const from = trail.at(-1);
  const again = (): void => ask((number) => number + 1);
  useReturn(error !== null, again);
  useEffect(() => {
    const stop = new AbortController();
    const wishes = new URLSearchParams({ limit: String(ROWS) });
    if (prefix) wishes.set("prefix", prefix);
    if (from) {
      wishes.set("after", from.after);
      wishes.set("at", String(from.at));
    }
    request<Page>(`/v1/state/${encodeURIComponent(state.name)}?${wishes.toString()}`, { signal: stop.signal, exact: true }).then(
      (now) => {
        setError(null);
        if (isCurrent(now.lineage)) setPage(now);
      },
      (why: unknown) => stop.signal.aborted || setError(why),
    );
    return () => stop.abort();
  }, [state.name, prefix, from, asked]);
  // Missing on the last page; null is a key.
  const hasNext = page !== null && "next" in page;
  const begin = (): void => {
    setTrail([]);
    again();
  };
  return (
    <Panel title="Browse" note={page && <>as of batch {count(page.txid)}{page.moved_on && ", the batch before is no longer held"}</>}>
      <div class="toolbar">
        {isText(state.key) && (
          <label class="field">
            Keys that begin with
            <input class="mono" value={prefix} onInput={(event) => { setTrail([]); setPrefix(event.currentTarget.value); }} />
          </label>
        )}
        <span class="end segments">
          <button type="button" onClick={begin}>Newest batch</button>
          <button type="button" disabled={trail.length === 0} onClick={() => setTrail(trail.slice(0, -1))}>Previous page</button>
          <button type="button" disabled={!hasNext} onClick={() => hasNext && setTrail([...trail, { after: textOf(page.next), at: page.txid }])}>Next page</button>
        </span>
      </div>
      {error !== null && <ErrorNote error={refusedOf(error)} />}
      {page && page.rows.length === 0 && <Nothing>No key is here.</Nothing>}
      {page && page.rows.length > 0 && (
        <div class="scroll rows" tabIndex={0} role="region" aria-label={`Keys and values of ${state.name}`}>
          <table class="dense">
            <thead>
              <tr><th scope="col">Key</th><th scope="col">Value</th></tr>
            </thead>
            <tbody>
              {page.rows.map((row) => (
                <tr key={textOf(row.key)}>
                  <td class="mono"><Value value={row.key} /></td>
                  <td class="mono"><Value value={row.value} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
