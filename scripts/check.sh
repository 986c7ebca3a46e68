#!/usr/bin/env bash
# Checks what needs no run: ruff's rules, its formatting, and the types. Half a minute, seconds where little has changed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install test
ruff check .
ruff format --check .
mypy
