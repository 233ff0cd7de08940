#!/usr/bin/env bash
# Makes anew all that is made of the stored runs, after runs, methods or reports have changed. Tests compare the pages.
set -euo pipefail
cd "$(dirname "$0")/.."

ltbench list methods --format md --results results/suites/digits-lt > docs/methods.md
ltbench report --results results/suites --results results/tuned --format md --title "Leaderboards" > results/LEADERBOARD.md
ltbench report --results results/suites --format md --parts shift --title "Label shift" > results/LABEL_SHIFT.md
ltbench report --results results/suites --format md --parts reported --title "Reported and measured" > results/REPORTED.md
ltbench report --results results/suites --results results/poster --results results/tuned --figures all --output results/figures
rm -f results/figures/*.png # as large as all else together

# The table in the README, by the command that it names.
python - <<'PYTHON'
import re
import subprocess
from pathlib import Path

page = Path("README.md")
text = page.read_text()
command = re.search(r"`(ltbench report --results [^`]+)` prints", text.replace("\n", " "))[1]
made = subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout
between = r"(?<=<!-- leaderboard -->\n\n).*?(?=\n?<!-- /leaderboard -->)"
page.write_text(re.sub(between, lambda _: made, text, flags=re.DOTALL))
PYTHON
