#!/usr/bin/env bash
# Train with the settings that two shared cores like: threads that sleep instead of spinning, and an allocator that keeps
# its memory (without it, page faults triple the time of a step). All arguments go to scripts.mini.train.
export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
exec "${PYTHON:-.venv/bin/python}" -m scripts.mini.train "$@"
