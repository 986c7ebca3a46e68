#!/usr/bin/env bash
# Installs asrpeft, then does its main job on the embedded base and demo speech: a language the base never heard.
# Scores the base, fine-tunes a LoRA adapter on attention and convolution layers, scores again, transcribes one recording
# without and with the adapter. Under ten minutes on two cores after the install.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install
out=runs/quickstart
rm -rf "$out" # what an earlier run of this script left

echo
echo "== Fine-tune on Swahili, a language that the base was never trained on =="
asrpeft finetune --recipe recipes/demo-swahili.toml --out "$out/sw"

echo
echo "== One recording, by the base and with the adapter =="
echo "said:    $(cat data/demo/sw-example.txt)"
echo "base:    $(asrpeft transcribe data/demo/sw-example.ogg --lang sw --ctc-weight 0.3 --quiet)"
echo "adapted: $(asrpeft transcribe data/demo/sw-example.ogg --adapter "$out/sw" --ctc-weight 0.3 --quiet)"
echo
echo "The adapter is in $out/sw. Next: asrpeft evaluate --data data/demo/sw-test.parquet --adapter $out/sw --ctc-weight 0.3"
