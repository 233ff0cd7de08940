#!/usr/bin/env bash
# Makes docs/report.png: the first screen of the HTML page of some results. It needs Debian's chromium.
#   docs/screenshot.sh results/suites            or, with a row open: docs/screenshot.sh results/suites row-ID, its first run
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ltbench report --format html --results "$1" --output "$work/report.html"
chromium --headless=new --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --force-prefers-reduced-motion --window-size=1440,1100 --screenshot=docs/report.png "file://$work/report.html#${2:-}"
