#!/usr/bin/env bash
# Makes anew all that is made of the stored runs, after runs, methods or reports have changed. Tests compare the pages.
set -euo pipefail
cd "$(dirname "$0")/.."

ltbench list methods --format md --results results/costs > docs/methods.md
ltbench report --results results/suites --columns rank,n,acc,many,med,few,ece,floor,mce,train --format md --title "Leaderboards" > results/LEADERBOARD.md
ltbench report --results results/tuned --settings all --columns rank,n,acc,many,med,few,ece,floor,mce --format md --title "Tuned and default settings" > results/TUNED.md
ltbench report --results results/suites --format md --parts shift --title "Label shift" > results/LABEL_SHIFT.md
ltbench report --results results/suites --format md --parts reported --title "Reported and measured" > results/REPORTED.md
figures=reliability,class-rank,experts,mixup,prior,shift,cost,training,critical-difference
ltbench report --results results/suites --results results/poster --figures "$figures" --output results/figures
ltbench report --results results/tuned --method balpoe --figures tuning,tuning-slice --output results/figures
ltbench report --results results/suites --dataset cifar100-lt --backbone cifar_resnet32 --epochs 200 \
    --figures reliability,mixup,prior,class-rank,shift --method ce,balanced_softmax,balpoe --output results/figures/cifar100-lt
rm -f results/figures/{,*/}*.{png,pdf} # larger than all else together

# README's picture, where Debian's chromium is.
if command -v chromium > /dev/null; then docs/screenshot.sh --results results/suites --dataset digits-lt; fi

# What README and guide quote of the commands that they name.
python docs/quoted_output.py
