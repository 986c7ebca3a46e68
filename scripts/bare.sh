#!/usr/bin/env bash
# Passes the tests as a machine would that has nothing but Python: a clone in a folder with a space and letters beyond ASCII, a
# fresh home, LC_ALL=C, umask 077, no texts, voices or tools of the system, arithmetic of AVX2 alone with 1 and then 4 threads.
#   bash scripts/bare.sh           everything, in an environment that it makes: half an hour on two cores
#   bash scripts/bare.sh --quick   the tests that such things have broken or could, once, in the environment of scripts/test.sh
# Threads wait without spinning: four of them on two cores would else wait for one another most of the time.
# Texts and voices of the system are hidden where this user may mount (root on Linux); elsewhere a line says they are not.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
quick=false
[ "${1:-}" != --quick ] || quick=true
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What this checkout holds now, committed or not, as a stranger's clone would.
clone="$work/a clone à côté, 資料/asrpeft"
mkdir -p "$clone"
(cd "$here" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null) | tar -xf - -C "$clone"

# The environment is made with the caller's settings for pip; all that follows sees none of them.
if $quick; then
    source "$here/scripts/environment.sh"
else
    export ASRPEFT_VENV="$work/venv with space"
    source "$clone/scripts/environment.sh"
fi
install test
[ "$cores" -le 4 ] || cores=4

# Every command of the system but those that would stand in for what tests must bring along.
commands="$work/commands"
mkdir "$commands"
hidden=" espeak espeak-ng festival ffmpeg ffprobe flac flite fortune lame sclite sctk sox text2wave "
for folder in /bin /usr/bin /usr/local/bin /opt/homebrew/bin; do
    for command in "$folder"/*; do
        [[ "$hidden" == *" ${command##*/} "* ]] || ln -sf "$command" "$commands/" 2>/dev/null || true
    done
done

run() { # THREADS WORKERS PYTEST-ARGUMENTS…
    local threads="$1" workers="$2"
    shift 2
    local home="$work/home.$threads"
    mkdir -p "$home"
    local mask='for place in /usr/share/games /usr/share/locale /usr/share/festival /usr/share/espeak-ng-data /usr/share/sounds; do
        [ ! -d "$place" ] || mount -t tmpfs none "$place"; done
        for file in /usr/lib/*/libflite*.so* /usr/lib/*/libespeak*.so*; do [ ! -e "$file" ] || mount --bind /dev/null "$file"; done;'
    local enter=(bash -c)
    if unshare --mount true 2>/dev/null; then enter=(unshare --mount bash -c "$mask"'exec "$@"' bash bash -c)
    else echo "(the system's texts and voices are not hidden: that needs root on Linux)"; fi
    (
        umask 077
        cd "$clone"
        env -i HOME="$home" LC_ALL=C TMPDIR="$work" PATH="$venv/bin:$commands" PYTHONPATH="$clone" ${CI:+CI="$CI"} \
            ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
            OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads" OMP_WAIT_POLICY=PASSIVE \
            TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 \
            "${enter[@]}" 'exec python -m pytest -p no:cacheprovider -n '"$workers"' --dist loadgroup --durations=3 "$@"' bash "$@"
    )
}

if $quick; then
    run 4 "$cores" tests/adapters tests/audio tests/mini tests/recognizer tests/training/test_resume.py tests/cli/test_parsing.py
else
    run 1 "$cores"
    run 4 2
fi
