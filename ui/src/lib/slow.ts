// Why a batch was slow: each phase against what is usual for its neighbours.
import { count, micros, times } from "./format";
import { median } from "./stats";

export const PHASES = ["fill", "compute", "commit", "fold", "publish"] as const;
export type Phase = (typeof PHASES)[number];
export type Durations = Record<Phase, number>;

export const PHASE_NAMES: Record<Phase, string> = {
  fill: "read",
  compute: "compute",
  commit: "commit",
  fold: "fold",
  publish: "publish",
};

export interface Verdict {
  usual: Durations;
  /** The phases that took more than is usual, the one that cost most first. */
  over: Phase[];
  /** The same in words. */
  text: string;
}

/** A phase counts as slow if it took this often its usual time, and this much more in microseconds. */
const RATIO = 2;
const LEAST_US = 1000;

export function judge(batch: Durations, neighbours: readonly Durations[]): Verdict {
  const usual = Object.fromEntries(PHASES.map((phase) => [phase, median(neighbours.map((one) => one[phase]))])) as Durations;
  if (neighbours.length < 3) return { usual, over: [], text: "There are too few batches beside it to say what is usual." };
  const more = (phase: Phase): number => batch[phase] - usual[phase];
  const over = PHASES.filter((phase) => more(phase) >= LEAST_US && batch[phase] >= usual[phase] * RATIO);
  over.sort((a, b) => more(b) - more(a));
  const beside = `the ${count(neighbours.length)} batches beside it`;
  if (over.length === 0) return { usual, over, text: `No phase took longer than is usual for ${beside}.` };
  const said = over.map((phase) => {
    const ratio = usual[phase] > 0 ? `, ${times(batch[phase] / usual[phase])} the usual ${micros(usual[phase])}` : ", usually none";
    return `${PHASE_NAMES[phase]} took ${micros(batch[phase])}${ratio}`;
  });
  return { usual, over, text: `Slower than ${beside}: ${said.join("; ")}.` };
}
