#!/usr/bin/env bash
# Runs the scenarios whose answer depends on a GPU on this machine's card of 80 GB, and writes their
# results as bench/results/SCENARIO_NAME.json. From the repository's root:
#
#   bench/gpu/run.sh [NAME]
#
# NAME is what sets the results apart; without one it is made of the card's: h100_80g, a100_80g.
# Environment: SCENARIOS (those to run), RUNS (5), RATE (of chunked_prefill: 20 requests/s), BASE (a folder or hub id instead of the files'),
# PYTHON (of an environment that has the project; without it .venv-gpu is made), PIP_ARGS.
set -euo pipefail

cd "$(dirname "$0")/../.."
SCENARIOS=${SCENARIOS:-multi_lora_or_standalone adapters_on_slots chunked_prefill cold_load}
RUNS=${RUNS:-5}
RATE=${RATE:-20}
LEAST_MIB=80000

fail() {
  echo "bench/gpu/run.sh: $*" >&2
  exit 1
}

command -v nvidia-smi >/dev/null || fail "no nvidia-smi: this needs a GPU with its driver"
card=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1)
used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n 1)
((mib >= LEAST_MIB)) || fail "$card has $mib MiB: the machine files are for 80 GB"
((used < 1000)) || fail "$used MiB of $card are in use: memory is part of what is measured"

model=$(grep -oiE '\b[a-z]{1,2}[0-9]{2,4}\b' <<<"$card" | head -n 1 | tr '[:upper:]' '[:lower:]' || true)
name=${1:-${model:-gpu}_80g}
[[ $name =~ ^[a-z][a-z0-9]*(_[a-z0-9]+)*$ ]] || fail "NAME '$name' is not of the form lower_case_words"

if [[ -z ${PYTHON:-} ]]; then
  test -x .venv-gpu/bin/python || python3 -m venv .venv-gpu
  PYTHON=$PWD/.venv-gpu/bin/python
  # The project's own pages and checks need nothing else; PIP_ARGS is split on purpose.
  # shellcheck disable=SC2086
  "$PYTHON" -m pip install ${PIP_ARGS:-} -e '.[gpu]'
fi

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
failed=()
for scenario in $SCENARIOS; do
  source=bench/gpu/$scenario.yaml
  [[ -f $source ]] || fail "no $source"
  # The file's name is the variant of the result.
  mkdir -p "$files/$scenario"
  machine=$files/$scenario/$name.yaml
  if [[ -n ${BASE:-} ]]; then
    sed "s|^base:.*|base: $BASE|" "$source" >"$machine"
  else
    cp "$source" "$machine"
  fi
  # The built-in rate of the long-prefill mix is for two cores of a CPU.
  more=()
  [[ $scenario != chunked_prefill ]] || more=(--rate "$RATE")
  echo "== $scenario on $card, $RUNS runs"
  "$PYTHON" -m "bench.scenarios.$scenario" --machine "$machine" --runs "$RUNS" --write "${more[@]}" ||
    failed+=("$scenario")
done

"$PYTHON" -m bench.report --write || failed+=("the report")
((${#failed[@]} == 0)) || fail "failed: ${failed[*]}"
echo "done: bench/results/*_$name.json and .bench/report.html"
