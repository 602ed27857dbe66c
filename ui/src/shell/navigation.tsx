// The way from view to view.
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
  const numbers: Partial<Record<View, number | undefined>> = {
    topology: topology.value?.nodes.length,
    states: status.value?.states?.length,
    queries: queries.value.length || undefined,
  };
  return (
    <nav class="views" aria-label="Views">
      {VIEWS.filter((view) => view !== "trends" || hasTrends.value).map((view) => (
        <a key={view} href={linkTo(view)} aria-current={route.value.view === view ? "page" : undefined}>
          {TITLES[view]}
          {numbers[view] !== undefined && <small>{numbers[view]}</small>}
        </a>
      ))}
    </nav>
  );
}
