#!/usr/bin/env bash
# Builds the web page into ui/dist, from where the next build of the program takes it. Without Node.js it says so and leaves things as they
# are: the program builds without the page too. Does nothing if the page is newer than everything that it is made of.
set -euo pipefail
cd "$(dirname "$0")/../ui"

say() { printf 'page: %s\n' "$*" >&2; }

major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p') || true
if [ -z "$major" ] || [ "$major" -lt 20 ] || ! command -v npm >/dev/null; then
  say "Node.js 20 or newer is not here: the program is built without its web page, and says so at /"
  exit 0
fi
if [ -e dist/index.html ] && [ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer dist/index.html -print -quit)" ]; then
  exit 0
fi
say "building it into ui/dist"
if ! npm ci --no-audit --no-fund --loglevel=error; then
  say "its packages could not be fetched: the program is built without its web page, and says so at /"
  exit 0
fi
npm run --silent build
# The compiler looks at the files that were there: this makes it look again.
touch ../src/page.rs
