// Pauses, resumes and drains the sources, each after a confirmation.
import { useState } from "preact/hooks";
import { request } from "../api/http";
import type { Refused, Status } from "../api/types";
import { Dialog } from "../parts/dialog";
import { ErrorNote, refusedOf } from "../parts/error-note";

const ACTIONS = {
  pause: { name: "Pause", title: "Pause the sources?", text: "No more records are read until the sources are resumed. Queries go on." },
  resume: { name: "Resume", title: "Resume the sources?", text: "Reading goes on where the last committed batch ended." },
  drain: { name: "Drain", title: "Drain the topology?", text: "The sources stop reading, and everything that was read is committed and published." },
} as const;
type Action = keyof typeof ACTIONS;

export function Controls({ phase }: { phase: Status["phase"] }) {
  const [asking, setAsking] = useState<Action | null>(null);
  const [error, setError] = useState<Refused | null>(null);
  const offered: Action[] = phase === "paused" ? ["resume", "drain"] : ["pause", "drain"];
  const act = async (action: Action): Promise<void> => {
    try {
      await request(`/v1/sources/${action}`, { method: "POST", body: "{}" });
      setAsking(null);
    } catch (why) {
      setError(refusedOf(why));
    }
  };
  const ask = (action: Action): void => {
    setError(null);
    setAsking(action);
  };
  return (
    <>
      {offered.map((action) => (
        <button type="button" key={action} disabled={phase !== "running" && phase !== "paused"} onClick={() => ask(action)}>{ACTIONS[action].name}</button>
      ))}
      {asking && (
        <Dialog title={ACTIONS[asking].title} confirm={ACTIONS[asking].name} onConfirm={() => void act(asking)} onCancel={() => setAsking(null)}>
          <p>{ACTIONS[asking].text}</p>
          {error && <ErrorNote error={error} />}
        </Dialog>
      )}
    </>
  );
}
