// How the page is built: hashed files under /assets, one stylesheet, nothing inline, for browsers that know light-dark().
import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "/",
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": { target: "http://127.0.0.1:7070", ws: true } } },
  test: { environment: "node" },
});
