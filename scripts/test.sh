#!/usr/bin/env bash
# Installs what the tests need and passes them. Arguments go to pytest: bash scripts/test.sh tests/scoring -k wer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install test
# One thread a worker: the tests' tensors are tiny, and two workers on two cores are twice as fast as one with two threads.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
exec python -m pytest -n "$cores" --dist loadgroup --durations=8 "$@"
