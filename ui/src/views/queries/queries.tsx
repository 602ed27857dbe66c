// The queries: what they take and give, a form to ask one, and its answer with the batch that it is from.
import { useState } from "preact/hooks";
import { request } from "../../api/http";
import { hasToken } from "../../api/token";
import type { QueryInfo } from "../../api/types";
import { curlOf, example, problemOf } from "../../lib/arguments";
import { count, micros, plural } from "../../lib/format";
import { stringify } from "../../lib/json";
import { shorten } from "../../lib/rust-type";
import { asTable } from "../../lib/table";
import { CopyButton } from "../../parts/copy-button";
import { ErrorNote, refusedOf } from "../../parts/error-note";
import { Nothing, Panel } from "../../parts/panel";
import { Value } from "../../parts/value";
import { queries } from "../../store/live";
import { linkTo, route } from "../../store/route";
import type { Answer } from "../../store/watches";

const MOST_ROWS = 500;

/** What was asked last, by query: for as long as the page is open. */
const asked = new Map<string, string>();

export function Queries() {
  const all = queries.value;
  const { part } = route.value;
  if (all.length === 0) return <Nothing>This topology answers no queries.</Nothing>;
  const chosen = all.find((query) => query.name === part) ?? all[0];
  return (
    <div class="aside-left">
      <nav aria-label="Queries">
        <ul class="choices">
          {all.map((query) => (
            <li key={query.name}>
              <a href={linkTo("queries", query.name)} aria-current={query === chosen ? "true" : undefined}>
                <b class="mono">{query.name}</b>
                <span class="muted mono">{shorten(query.arguments)} → {resultOf(query)}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {chosen && <Ask key={chosen.name} query={chosen} />}
    </div>
  );
}

function resultOf({ result, one }: QueryInfo): string {
  return one ? shorten(result) : `list of ${shorten(result)}`;
}

function Ask({ query }: { query: QueryInfo }) {
  const [text, setText] = useState(asked.get(query.name) ?? example(query.arguments));
  const [answer, setAnswer] = useState<(Answer & { took: number }) | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [waiting, setWaiting] = useState(false);
  const problem = problemOf(text, query.arguments);
  const ask = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (problem || waiting) return;
    asked.set(query.name, text);
    setWaiting(true);
    setError(null);
    const began = performance.now();
    try {
      const now = await request<Answer>(`/v1/query/${encodeURIComponent(query.name)}`, { method: "POST", body: text, exact: true });
      setAnswer({ ...now, took: performance.now() - began });
    } catch (why) {
      setAnswer(null);
      setError(why);
    }
    setWaiting(false);
  };
  const curl = curlOf(location.origin, query.name, text, hasToken());
  return (
    <div>
      <Panel title={query.name} note={<span class="mono">{shorten(query.arguments)} → {resultOf(query)}</span>}>
        <form class="ask" onSubmit={(event) => void ask(event)}>
          <label>
            Arguments, as JSON
            <textarea class="mono" rows={2} spellcheck={false} value={text} aria-invalid={problem !== null} aria-describedby="problem" onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <p id="problem" class="problem small" aria-live="polite">{problem}</p>
          <div class="toolbar">
            <button type="submit" class="primary" disabled={problem !== null || waiting}>{waiting ? "Asking…" : "Ask"}</button>
            <code class="curl">{curl}</code>
            <CopyButton text={curl} label="Copy the command" />
          </div>
        </form>
      </Panel>
      <div aria-live="polite">
        {error !== null && <ErrorNote error={refusedOf(error)} />}
        {answer && <Answered answer={answer} />}
      </div>
    </div>
  );
}

function Answered({ answer }: { answer: Answer & { took: number } }) {
  const [asJson, setAsJson] = useState(false);
  const table = asTable(answer.result);
  return (
    <Panel title="Answer" note={`batch ${count(answer.txid)}, ${micros(answer.took * 1000)} from here to here`}>
      {table && (
        <div class="toolbar">
          <span class="muted">{plural(table.rows.length, "row")}{table.rows.length > MOST_ROWS && `, of which ${count(MOST_ROWS)} are shown`}</span>
          <span class="segments end">
            <button type="button" aria-pressed={!asJson} onClick={() => setAsJson(false)}>Table</button>
            <button type="button" aria-pressed={asJson} onClick={() => setAsJson(true)}>JSON</button>
          </span>
        </div>
      )}
      {table && !asJson ? (
        <div class="scroll rows" tabIndex={0} role="region" aria-label="The answer, as a table">
          <table class="dense">
            <thead><tr>{table.columns.map((column) => <th scope="col" key={column}>{column}</th>)}</tr></thead>
            <tbody>
              {table.rows.slice(0, MOST_ROWS).map((row, index) => (
                <tr key={index}>{row.map((cell, at) => <td class={`mono ${typeof cell === "number" || typeof cell === "bigint" ? "number" : ""}`} key={at}><Value value={cell} /></td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <pre class="scroll rows" tabIndex={0}>{stringify(answer.result, 2).slice(0, 200_000)}</pre>
      )}
    </Panel>
  );
}
