#!/usr/bin/env bash
# Makes docs/report.png: the first screen of the HTML page of some results. It needs Debian's chromium.
#   docs/screenshot.sh --results results/suites --dataset digits-lt     (options of ltbench report)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ltbench report --format html "$@" --output "$work/report.html"
chromium --headless=new --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --force-prefers-reduced-motion --window-size=1440,1100 --screenshot="$here/report.png" "file://$work/report.html"
