// The frame around the views: head, navigation, banner, and the view that the address names.
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { request } from "./api/http";
import { Banner } from "./shell/banner";
import { Head } from "./shell/head";
import { Navigation, TITLES } from "./shell/navigation";
import { TokenDialog } from "./shell/token-dialog";
import { epoch, stale, status } from "./store/live";
import { useReturn } from "./store/returns";
import { route, type View } from "./store/route";
import { Overview } from "./views/overview/overview";

/** The other views are loaded once the server has been heard of, or when they are first shown. */
const LOADERS: Record<Exclude<View, "overview">, () => Promise<ComponentType>> = {
  topology: () => import("./views/topology/topology").then((view) => view.TopologyView),
  batches: () => import("./views/batches/batches").then((view) => view.Batches),
  states: () => import("./views/states/states").then((view) => view.States),
  queries: () => import("./views/queries/queries").then((view) => view.Queries),
  trends: () => import("./views/trends/trends").then((view) => view.Trends),
};

export function App() {
  const { view } = route.value;
  const main = useRef<HTMLElement>(null);
  const shown = useRef(view);
  useEffect(() => {
    const name = status.value?.topology;
    document.title = [TITLES[view], name, "Tidemill"].filter(Boolean).join(" · ");
    if (shown.current !== view) {
      shown.current = view;
      main.current?.focus();
    }
  }, [view, status.value?.topology]);
  const heard = status.value !== null;
  useEffect(() => {
    // So that they are there if the server goes away. One that cannot be loaded says so when it is shown.
    if (heard) for (const load of Object.values(LOADERS)) load().catch(() => {});
  }, [heard]);
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>Skip to the content</button>
      <Head />
      <Navigation />
      <Banner />
      <main ref={main} tabIndex={-1} class={stale.value ? "stale" : ""} aria-label={TITLES[view]} key={epoch.value}>
        {view === "overview" ? <Overview /> : <Loaded key={view} view={view} />}
      </main>
      <TokenDialog />
    </>
  );
}

function Loaded({ view }: { view: Exclude<View, "overview"> }) {
  const [loaded, setLoaded] = useState<{ component: ComponentType } | null>(null);
  const [failed, setFailed] = useState(false);
  const [tries, setTries] = useState(1);
  useReturn(failed, () => setTries((number) => number + 1));
  useEffect(() => {
    let wanted = true;
    const fail = (): void => {
      if (!wanted) return;
      setFailed(true);
      if (tries > 1) void loadPageAnew();
    };
    LOADERS[view]().then((component) => wanted && setLoaded({ component }), fail);
    return () => {
      wanted = false;
    };
  }, [tries]);
  if (loaded) return <loaded.component />;
  return failed ? <p class="nothing">This view could not be loaded. That is tried again when the server is back; if it is, load the page again.</p> : null;
}

/** Older browsers do not load again what has failed once, and another version of the server has other files. */
async function loadPageAnew(): Promise<void> {
  try {
    await request("/v1/status", { quiet: true });
    location.reload();
  } catch {
    // It is away again: the page would be lost.
  }
}
