// Asks for the token that the server wants.
import { useState } from "preact/hooks";
import { asked, giveToken } from "../api/token";
import { Dialog } from "../parts/dialog";

export function TokenDialog() {
  const [token, setToken] = useState("");
  if (asked.value === "no") return null;
  const give = (): void => {
    if (!token.trim()) return;
    giveToken(token.trim());
    setToken("");
  };
  return (
    <Dialog title="This server wants a token" confirm="Go on" onConfirm={give}>
      {asked.value === "again" && <p class="problem" role="alert">The server did not take the last one.</p>}
      <label>
        Token
        <input type="password" autocomplete="off" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
      </label>
      <p class="muted">It is kept until this tab is closed, and sent to this server only.</p>
    </Dialog>
  );
}
