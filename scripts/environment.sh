# Sourced by quickstart.sh and test.sh: makes a virtual environment and installs the project into it.
#   ASRPEFT_VENV    where (default: .venv in the checkout)
#   ASRPEFT_PYTHON  which Python makes it (default: python3)
# install [EXTRA]   installs, and records for which state of the project's files, so that a second run starts at once.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
venv="${ASRPEFT_VENV:-$root/.venv}"
cores="$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)"

install() {
    local extra="${1:-}" python="${ASRPEFT_PYTHON:-python3}" stamp
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "asrpeft needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1). Set ASRPEFT_PYTHON." >&2
        exit 2
    fi
    stamp="$venv/.installed-$(cat pyproject.toml scripts/constraints.txt | cksum | cut -d' ' -f1)${extra:+-$extra}"
    if [ ! -e "$stamp" ]; then
        echo "Installing into $venv (a minute or two) ..."
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".${extra:+[$extra]}"
        touch "$stamp"
    fi
    export PATH="$venv/bin:$PATH" TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1
}
