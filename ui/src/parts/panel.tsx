// A titled part of a view, and a figure with its name.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export function Panel({ title, note, children, class: more = "" }: { title: string; note?: ComponentChildren; children: ComponentChildren; class?: string }) {
  const id = useId();
  return (
    <section class={`panel ${more}`} aria-labelledby={id}>
      <header class="panel-head">
        <h2 id={id}>{title}</h2>
        {note && <div class="panel-note">{note}</div>}
      </header>
      {children}
    </section>
  );
}

export function Figure({ name, value, note, tone }: { name: string; value: string; note?: string | undefined; tone?: "warn" | "bad" | undefined }) {
  return (
    <div class={`figure ${tone ?? ""}`}>
      <dt>{name}</dt>
      <dd>
        {value}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

export function Nothing({ children }: { children: ComponentChildren }) {
  return <p class="nothing">{children}</p>;
}
