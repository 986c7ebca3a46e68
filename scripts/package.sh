#!/usr/bin/env bash
# Builds the sdist and the wheel into dist/, looks into them, installs the wheel in a fresh environment and tries it outside the checkout.
#   bash scripts/package.sh           with all libraries anew: some minutes and 5 GB
#   bash scripts/package.sh --quick   with the libraries of scripts/test.sh's environment
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
rm -rf dist
fresh="$work/venv/bin/python"
"${ASRPEFT_PYTHON:-python3}" -m venv "$work/venv"
"$fresh" -m pip install --quiet --disable-pip-version-check build
"$fresh" -m build --outdir dist . >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }

"$fresh" - dist <<'PYTHON'
import sys, tarfile, zipfile
from pathlib import Path

dist = Path(sys.argv[1])
wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
names = zipfile.ZipFile(wheel).namelist()
source = [name.partition("/")[2] for name in tarfile.open(sdist).getnames()]
wanted = ["asrpeft/py.typed", "asrpeft/methods/weight/lora.py", "asrpeft/corpus/formats/kaldi.py", "asrpeft/streaming/policies/vad.py"]
lacking = [name for name in wanted if name not in names or name not in source]
lacking += [] if any(name.endswith("dist-info/licenses/LICENSE") for name in names) else ["LICENSE"]
stray = [name for name in names if not name.startswith("asrpeft")] + [name for name in source if name.split("/")[0] in ("data", "tests", "scripts")]
if lacking or stray:
    sys.exit(f"{wheel.name}: lacks {lacking}, and has no use for {stray[:5]}")
print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e3:.0f} kB; {sdist.name}: {sdist.stat().st_size / 1e3:.0f} kB")
PYTHON

if [ "${1:-}" = --quick ]; then
    [ -x "$venv/bin/python" ] || install test
    "$fresh" -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
    # Libraries come after what is installed here, so that this asrpeft is the wheel's.
    "$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$("$fresh" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/libraries.pth"
else
    "$fresh" -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt dist/*.whl
fi
mkdir "$work/elsewhere"
cd "$work/elsewhere"
asrpeft="$work/venv/bin/asrpeft"
"$fresh" -c 'import asrpeft, sys; sys.exit(not asrpeft.__file__.startswith(sys.prefix))'
"$asrpeft" --version
"$fresh" -c 'import soundfile; soundfile.write("x.wav", [0.0] * 16_000, 16_000)'
status=0
said="$("$asrpeft" transcribe x.wav 2>&1)" || status=$?
echo "$said"
[ "$status" = 2 ] && [[ "$said" == *"--model openai/whisper-small"* ]] && [ "$(wc -l <<<"$said")" = 1 ] || { echo "It should have said what to do for a model (status $status)." >&2; exit 1; }
