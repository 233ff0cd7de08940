#!/usr/bin/env bash
# Makes docs/report.png: the HTML page of some results, with one row open. It needs Debian's chromium.
#   docs/screenshot.sh results/suites/digits-lt row-1-4        (the fifth row of the first table)
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ltbench report --format html --results "$1" --output "$work/report.html"
chromium --headless=new --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --force-prefers-reduced-motion --window-size=1440,1950 --screenshot=docs/report.png "file://$work/report.html#$2"
