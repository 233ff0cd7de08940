#!/usr/bin/env bash
# gpu.sh FOLDER [SECONDS [SUITE]]: what only a CUDA GPU can show, most important first, until the time is up.
# Conformance of every method, equality with the CPU and of recorded and compiled steps, ltbench bench, then runs of a
# suite, several at once; all that they print and store is left in FOLDER. Runs that are stopped resume from the cache;
# what results/suites holds is trained again, since others start from its weights.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$(mkdir -p "$1" && cd "$1" && pwd)
seconds=${2:-780}
suite=${3:-cifar100-lt-200-epochs}
left() { echo $((seconds - SECONDS > 1 ? seconds - SECONDS : 1)); }
step() {  # NAME SHARE COMMAND...: at most this many seconds, and no more than are left
    local name=$1 most=$(($2 < $(left) ? $2 : $(left))); shift 2
    echo "== $name: at most $most s"
    timeout --signal=INT --kill-after=20 "$most" "$@" 2>&1 | tee "$folder/$name.txt"
    echo "$name: exit code ${PIPESTATUS[0]} after $SECONDS s" | tee -a "$folder/summary.txt"
}

step machine 30 python -m ltbench doctor
python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "there is no CUDA GPU" >&2; exit 2; }
step tests 300 python -m pytest -m gpu tests/gpu -p no:cacheprovider -n 4 --dist load
step bench 120 python -m ltbench bench --device cuda --rounds 3
step runs "$(($(left) - 20))" python -m ltbench run --suite "$suite" --device cuda --parallel "${PARALLEL:-6}" --out "$folder/results"
tar -czf "$folder/results.tar.gz" -C "$folder" results 2> /dev/null
cat "$folder/summary.txt"
