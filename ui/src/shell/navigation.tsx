// The way from view to view.
import { useEffect, useRef } from "preact/hooks";
import { hasTrends, queries, status, topology } from "../store/live";
import { linkTo, route, VIEWS, type View } from "../store/route";

export const TITLES: Record<View, string> = {
  overview: "Overview",
  topology: "Topology",
  batches: "Batches",
  states: "States",
  queries: "Queries",
  trends: "Trends",
};

export function Navigation() {
  const list = useRef<HTMLElement>(null);
  const { view: shown } = route.value;
  // On a narrow screen they do not all fit.
  useEffect(() => list.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }), [shown, hasTrends.value]);
  const numbers: Partial<Record<View, number | undefined>> = {
    topology: topology.value?.nodes.length,
    states: status.value?.states?.length,
    queries: queries.value.length || undefined,
  };
  return (
    <nav class="views" aria-label="Views" ref={list}>
      {VIEWS.filter((view) => view !== "trends" || hasTrends.value).map((view) => (
        <a key={view} href={linkTo(view)} aria-current={route.value.view === view ? "page" : undefined}>
          {TITLES[view]}
          {numbers[view] !== undefined && <small>{numbers[view]}</small>}
        </a>
      ))}
    </nav>
  );
}
