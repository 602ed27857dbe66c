#!/usr/bin/env bash
# Builds the web page into ui/dist, from where the next build of the program takes it. Without Node.js it says so and leaves things as they
# are: the program builds without the page too. Does nothing if the page is newer than everything that it is made of.
set -euo pipefail
cd "$(dirname "$0")/../ui"

say() { printf 'page: %s\n' "$*" >&2; }

# What its build tools run on: 20.19 or newer, and of 22 from 22.12 on.
is_new_enough() {
  local major minor
  IFS=. read -r major minor _ <<<"$(node --version 2>/dev/null | tr -d v)"
  case ${major:-0} in
    20) [ "$minor" -ge 19 ] ;;
    22) [ "$minor" -ge 12 ] ;;
    *) [ "${major:-0}" -gt 22 ] ;;
  esac
}

without="the program is built without its web page, and says so at /"
if ! is_new_enough; then
  say "Node.js 20.19 or newer (of 22, 22.12) is not here: $without"
  exit 0
fi
if ! command -v npm >/dev/null; then
  say "npm is not here, which comes with Node.js or as a package of its own: $without"
  exit 0
fi
if [ -e dist/index.html ] && [ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer dist/index.html -print -quit)" ]; then
  exit 0
fi
say "building it into ui/dist"
if ! npm ci --no-audit --no-fund --loglevel=error; then
  say "its packages could not be fetched: $without"
  exit 0
fi
npm run --silent build
# The compiler looks at the files that were there: this makes it look again.
touch ../src/page.rs
