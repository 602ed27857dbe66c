// The head of the page: which topology, how it is, the last committed batch, and the strip of batches.
import { TideStrip } from "../charts/tide-strip";
import { count } from "../lib/format";
import { stale, status } from "../store/live";
import { isDark, themeVersion, toggleTheme } from "../store/theme";
import { Controls } from "./controls";
import { Mark } from "./mark";

export function Head() {
  const now = status.value;
  const phase = stale.value ? "unknown" : (now?.phase ?? "unknown");
  return (
    <header class="head">
      <div class="brand">
        <Mark />
        <span class="wordmark">Tidemill</span>
      </div>
      <h1 class="topology-name">{now?.topology ?? "…"}</h1>
      <div class="state-of">
        <span class={`phase ${phase}`} role="status">
          <i aria-hidden="true" />
          <span class="unseen">The topology is </span>
          {phase}
        </span>
        <span class="txid">
          batch <b>{count(now?.committed)}</b>
        </span>
      </div>
      <TideStrip />
      <div class="head-buttons">
        {now?.controls === true && <Controls phase={now.phase} />}
        <ThemeButton />
      </div>
    </header>
  );
}

function ThemeButton() {
  void themeVersion.value;
  const wanted = isDark() ? "light" : "dark";
  return (
    <button type="button" class="icon" onClick={toggleTheme} aria-label={`Change to ${wanted} colours`} title={`Change to ${wanted} colours`}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.4" />
        <path d="M8 2.4a5.6 5.6 0 0 1 0 11.2z" fill="currentColor" />
      </svg>
    </button>
  );
}
