// The frame around the views: head, navigation, banner, and the view that the address names.
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Banner } from "./shell/banner";
import { Head } from "./shell/head";
import { Navigation, TITLES } from "./shell/navigation";
import { TokenDialog } from "./shell/token-dialog";
import { epoch, stale, status } from "./store/live";
import { route, type View } from "./store/route";
import { Overview } from "./views/overview/overview";

/** The other views are loaded when they are first shown. */
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
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>Skip to the content</button>
      <Head />
      <Navigation />
      <Banner />
      <main ref={main} tabIndex={-1} class={stale.value ? "stale" : ""} aria-label={TITLES[view]} key={epoch.value}>
        {view === "overview" ? <Overview /> : <Loaded view={view} />}
      </main>
      <TokenDialog />
    </>
  );
}

function Loaded({ view }: { view: Exclude<View, "overview"> }) {
  const [loaded, setLoaded] = useState<{ view: View; component: ComponentType } | null>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    let wanted = true;
    setFailed(false);
    LOADERS[view]().then(
      (component) => wanted && setLoaded({ view, component }),
      () => wanted && setFailed(true),
    );
    return () => {
      wanted = false;
    };
  }, [view]);
  if (failed) return <p class="nothing">This view could not be loaded. Load the page again when the server is back.</p>;
  if (loaded?.view !== view) return null;
  const View = loaded.component;
  return <View />;
}
