// Moves and scales what is drawn, straight in the document: nothing is rendered anew for it.
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { RefObject } from "preact";

const LEAST = 0.05;
const MOST = 2.5;
/** What would have to be smaller than this is first shown larger, from its beginning: the whole of it could not be read. */
const TOO_SMALL = 0.25;
const READABLE = 0.6;
/** Below this scale, small letters are left out. */
const FAR = 0.5;
/** A pointer that moved less than this has clicked. */
const CLICK_PX = 4;

export interface PanZoom {
  svg: RefObject<SVGSVGElement | null>;
  content: RefObject<SVGGElement | null>;
  zoom: (factor: number) => void;
  fit: () => void;
  /** Moves a place into view. */
  reveal: (x: number, y: number, margin: number) => void;
  /** Whether the last pointer moved the picture instead of clicking. */
  dragged: () => boolean;
}

export function usePanZoom(width: number, height: number): PanZoom {
  const svg = useRef<SVGSVGElement>(null);
  const content = useRef<SVGGElement>(null);
  const size = useRef({ width, height });
  size.current = { width, height };

  const { move, begin, ...rest } = useMemo(() => {
    const view = { x: 0, y: 0, k: 1 };
    const pointers = new Map<number, { x: number; y: number }>();
    let travelled = 0;

    const apply = (): void => {
      content.current?.setAttribute("transform", `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.k.toFixed(4)})`);
      svg.current?.classList.toggle("far", view.k < FAR);
    };
    const box = (): DOMRect => svg.current?.getBoundingClientRect() ?? new DOMRect(0, 0, 1, 1);
    const scaleAt = (factor: number, x: number, y: number): void => {
      const k = Math.min(MOST, Math.max(LEAST, view.k * factor));
      view.x = x - ((x - view.x) * k) / view.k;
      view.y = y - ((y - view.y) * k) / view.k;
      view.k = k;
      apply();
    };
    const show = (least: number): void => {
      const { width: wide, height: high } = box();
      view.k = Math.min(1.15, Math.max(least, Math.min(wide / size.current.width, high / size.current.height)));
      view.x = Math.max(0, (wide - size.current.width * view.k) / 2);
      view.y = Math.max(0, (high - size.current.height * view.k) / 2);
      apply();
    };
    const fit = (): void => show(LEAST);
    const begin = (): void => {
      fit();
      if (view.k < TOO_SMALL) show(READABLE);
    };
    const reveal = (x: number, y: number, margin: number): void => {
      const { width: wide, height: high } = box();
      const [atX, atY] = [view.x + x * view.k, view.y + y * view.k];
      view.x += Math.max(0, margin - atX) - Math.max(0, atX - (wide - margin));
      view.y += Math.max(0, margin / 2 - atY) - Math.max(0, atY - (high - margin / 2));
      apply();
    };
    const move = {
      down: (event: PointerEvent): void => {
        if (pointers.size === 0) travelled = 0;
        pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      },
      move: (event: PointerEvent): void => {
        const before = pointers.get(event.pointerId);
        if (!before) return;
        const now = { x: event.clientX, y: event.clientY };
        const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
        travelled += Math.hypot(now.x - before.x, now.y - before.y);
        if (travelled > CLICK_PX) svg.current?.setPointerCapture(event.pointerId);
        const part = other ? 0.5 : 1;
        view.x += (now.x - before.x) * part;
        view.y += (now.y - before.y) * part;
        pointers.set(event.pointerId, now);
        if (!other) return apply();
        const { left, top } = box();
        const apart = (at: { x: number; y: number }): number => Math.max(1, Math.hypot(at.x - other.x, at.y - other.y));
        scaleAt(apart(now) / apart(before), (now.x + other.x) / 2 - left, (now.y + other.y) / 2 - top);
      },
      up: (event: PointerEvent): void => void pointers.delete(event.pointerId),
      wheel: (event: WheelEvent): void => {
        event.preventDefault();
        const { left, top } = box();
        scaleAt(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) * 0.004), event.clientX - left, event.clientY - top);
      },
    };
    const zoom = (factor: number): void => scaleAt(factor, box().width / 2, box().height / 2);
    return { move, begin, fit, zoom, reveal, dragged: () => travelled > CLICK_PX };
  }, []);

  useEffect(() => {
    const at = svg.current;
    if (!at) return;
    at.addEventListener("wheel", move.wheel, { passive: false });
    at.addEventListener("pointerdown", move.down);
    at.addEventListener("pointermove", move.move);
    for (const end of ["pointerup", "pointercancel", "pointerleave"] as const) at.addEventListener(end, move.up);
    return () => {
      at.removeEventListener("wheel", move.wheel);
      at.removeEventListener("pointerdown", move.down);
      at.removeEventListener("pointermove", move.move);
      for (const end of ["pointerup", "pointercancel", "pointerleave"] as const) at.removeEventListener(end, move.up);
    };
  }, []);
  useEffect(begin, [width, height]);
  return { svg, content, ...rest };
}
