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
        # pip names the checkout in a file that Python before 3.13 reads in the locale's encoding: a folder with a letter beyond ASCII
        # would keep it from starting at all under LC_ALL=C. As code, with such letters written out, it is read in any.
        "$python" - "$venv" <<'END'
import pathlib, sys
for file in pathlib.Path(sys.argv[1]).glob("lib*/python*/site-packages/__editable__*.pth"):
    line = file.read_bytes()
    if not line.isascii():
        file.write_text(f"import sys; sys.path.append({ascii(line.decode('utf-8', 'surrogateescape').strip())})\n", encoding="ascii")
END
        touch "$stamp"
    fi
    export PATH="$venv/bin:$PATH" TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1
}
