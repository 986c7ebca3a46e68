#!/usr/bin/env bash
# Train with the settings that two shared cores like: threads that sleep instead of spinning, and an allocator that keeps
# its memory (without it, page faults triple the time of a step): gperftools' where it is installed (Debian:
# libtcmalloc-minimal4), else glibc's, whose heap grows with the shapes of batches. All arguments go to scripts.mini.train.
export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE ONEDNN_PRIMITIVE_CACHE_CAPACITY=4096
tcmalloc=$(ls /usr/lib/*/libtcmalloc_minimal.so.4 2>/dev/null | head -1)
if [ -n "$tcmalloc" ]; then
  export LD_PRELOAD="$tcmalloc" TCMALLOC_RELEASE_RATE=0
else
  export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
fi
exec "${PYTHON:-.venv/bin/python}" -m scripts.mini.train "$@"
