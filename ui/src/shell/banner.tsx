// Says when the server does not answer, and what it is waiting for while it starts.
import { useEffect, useState } from "preact/hooks";
import { clock, duration } from "../lib/format";
import { heardAt, link, status } from "../store/live";

export function Banner() {
  const { mode, since } = link.value;
  const now = status.value;
  return (
    <div role="status" aria-live="polite" class="banners">
      {mode === "down" && (
        <p class="banner bad">
          <b>The server does not answer</b>
          {since !== null && <Since since={now ? heardAt.value : since} />}
          <span>It is tried again until it does.{now && " What is shown is what was last known."}</span>
        </p>
      )}
      {mode !== "down" && now?.phase === "starting" && (
        <p class="banner">
          <b>The topology is starting.</b>
          {now.waiting && <span>Waiting: {now.waiting}</span>}
        </p>
      )}
    </div>
  );
}

function Since({ since }: { since: number }) {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <span>
      since {clock(since)}
      <span aria-hidden="true"> ({duration(Date.now() - since)})</span>.
    </span>
  );
}
