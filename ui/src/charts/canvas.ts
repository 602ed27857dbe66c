// A canvas that has the size of its place and the sharpness of the screen, and is drawn anew when either or the theme changes.
import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { RefObject } from "preact";
import { themeVersion } from "../store/theme";

export type Draw = (context: CanvasRenderingContext2D, width: number, height: number) => void;

/** Drawn anew when one of the inputs changes, at most once a frame. */
export function useCanvas(draw: Draw, inputs: readonly unknown[]): RefObject<HTMLCanvasElement | null> {
  const ref = useRef<HTMLCanvasElement>(null);
  const latest = useRef(draw);
  latest.current = draw;
  const frame = useRef(0);

  const paint = (): void => {
    const canvas = ref.current;
    const context = canvas?.getContext("2d");
    if (!canvas || !context) return;
    const { width, height } = canvas.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== wide) canvas.width = wide;
    if (canvas.height !== high) canvas.height = high;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    if (width > 0) latest.current(context, width, height);
  };
  const soon = (): void => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(paint);
  };

  useSignalEffect(() => {
    void themeVersion.value;
    soon();
  });
  useEffect(soon, inputs);
  useEffect(() => {
    const observer = new ResizeObserver(soon);
    if (ref.current) observer.observe(ref.current);
    return () => {
      observer.disconnect();
      cancelAnimationFrame(frame.current);
    };
  }, []);
  return ref;
}
