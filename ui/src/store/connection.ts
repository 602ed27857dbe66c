// The connection to the server: the web socket, polling if it cannot be opened, and trying again for as long as nothing answers.
import { request, Refusal } from "../api/http";
import { askForToken, subprotocols } from "../api/token";
import type { Batch, Refused, Status } from "../api/types";
import { hasLongNumbers, parse, stringify } from "../lib/json";
import type { OperatorTotals } from "../lib/rates";
import { delayOf, next, type LinkEvent } from "../lib/reconnect";
import { applyBatches, applyOperators, applyStatus, isCurrent, link, loadBatches, status } from "./live";
import { answered, askAll, refused, useSocket, type Answer } from "./watches";

type Message =
  | { type: "status"; status: Status }
  // `left_out`: how many older ones have changed too. Those that are missing then are seen by their numbers.
  | { type: "batches"; batches: Batch[]; left_out?: number }
  | { type: "operators"; operators: OperatorTotals[] }
  | ({ type: "answer"; id: string } & Answer)
  | { type: "error"; id?: string; error: Refused };

const OPEN_WITHIN_MS = 4000;
/** A status comes each second. After so long without one the server stands still, or the way to it is cut: with the look it is said within 6 s. */
const SILENT_MS = 4000;
const LOOK_MS = 500;
/** How long an answer to a poll may take, which is tried a second after the one before. */
const ANSWER_WITHIN_MS = 4000;
const POLL_MS = 1000;
/** How many polls there are between attempts to open the socket after all. */
const POLLS = 20;

let socket: WebSocket | null = null;
let lastMessage = 0;
let polls = 0;
let batchesAskedAt = -1;

const happened = (event: LinkEvent): void => void (link.value = next(link.value, event));
const later = (ms: number, what: () => void): void => void setTimeout(what, ms);

export function connect(): void {
  setInterval(() => {
    if (link.value.mode === "live" && Date.now() - lastMessage > SILENT_MS) leave();
  }, LOOK_MS);
  openSocket();
}

function openSocket(): void {
  const opening = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`, subprotocols());
  socket = opening;
  const tooLate = setTimeout(() => opening.close(), OPEN_WITHIN_MS);
  opening.onopen = () => {
    clearTimeout(tooLate);
    lastMessage = Date.now();
    const again = status.value !== null;
    happened({ type: "opened" });
    useSocket((message) => opening.send(stringify(message)));
    if (again) void loadBatches();
  };
  opening.onmessage = ({ data }) => {
    if (socket !== opening) return;
    lastMessage = Date.now();
    receive(messageOf(String(data)));
  };
  opening.onclose = () => {
    clearTimeout(tooLate);
    if (socket !== opening) return;
    socket = null;
    useSocket(null);
    if (link.value.mode !== "live") return void poll();
    lost();
  };
}

/** Gives up a socket on which nothing comes. Its end is not waited for: the browser gives the other side a minute to agree to it. */
function leave(): void {
  const silent = socket;
  socket = null;
  useSocket(null);
  silent?.close();
  lost();
}

function lost(): void {
  happened({ type: "lost", at: Date.now() });
  later(delayOf(link.value), openSocket);
}

/** What an answer holds stays exact; all other messages are numbers to compute with. */
function messageOf(text: string): Message {
  const message = parse(text) as Message;
  return message.type !== "answer" && hasLongNumbers(text) ? (JSON.parse(text) as Message) : message;
}

function receive(message: Message): void {
  if (message.type === "status") applyStatus(message.status);
  else if (message.type === "batches") applyBatches(message.batches);
  else if (message.type === "operators") applyOperators(message.operators);
  else if (message.type === "answer") answered(message.id, message);
  else if (message.type === "error" && message.id) refused(message.id, message.error);
}

async function poll(): Promise<void> {
  try {
    const now = await request<Status>("/v1/status", { quiet: true, withinMs: ANSWER_WITHIN_MS });
    happened({ type: "polled" });
    applyStatus(now);
    // Until it has started there is nothing else to ask for: the other paths would only refuse.
    if (now.lineage === undefined) return later(POLL_MS, openSocket);
    await Promise.all([pollBatches(), pollOperators()]);
    later(POLL_MS, ++polls % POLLS === 0 ? openSocket : () => void poll());
  } catch (why) {
    if (why instanceof Refusal && why.status === 401) return unlock();
    lost();
  }
}

async function pollBatches(): Promise<void> {
  const committed = status.value?.committed ?? 0;
  void askAll(committed);
  if (committed === batchesAskedAt) return;
  const { batches } = await request<{ batches: Batch[] }>("/v1/batches?limit=200", { withinMs: ANSWER_WITHIN_MS });
  batchesAskedAt = committed;
  applyBatches(batches);
}

async function pollOperators(): Promise<void> {
  const wishes = { withinMs: ANSWER_WITHIN_MS };
  const { lineage, operators } = await request<{ lineage: string; operators: OperatorTotals[] }>("/v1/operators", wishes);
  if (isCurrent(lineage)) applyOperators(operators);
}

function unlock(): void {
  happened({ type: "refused" });
  void askForToken().then(() => {
    happened({ type: "unlocked" });
    openSocket();
  });
}
