"""The model card, `data/mini/README.md`: what the model is, from what, how good, for what not."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

TEXT = """# `data/mini`: a small multilingual recognizer to adapt

Base id **{id}** · Apache-2.0 · {date} · made by `scripts/mini` of this repository

A Whisper-format encoder and decoder ({parameters:.1f} M parameters: {encoder} encoder layers, {decoder} decoder layers, width 256, 80 mel bins)
that loads with plain `transformers`, and a character CTC head (`ctc.safetensors`, characters in `asrpeft.json`). It exists so
that adaptation can be tried, tested and measured without downloading anything. For real work adapt `openai/whisper-small`.

    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    model, processor = (kind.from_pretrained("data/mini") for kind in (WhisperForConditionalGeneration, WhisperProcessor))

Languages: {languages}.
Tokens exist for all of Whisper's languages; those of the others are untrained. Text is lower case, with apostrophes as the
only punctuation, numbers in words; text tokens begin with a space, as Whisper's do. It was trained for the audio contexts
`full` (30 s) and `auto` (the length and half a second, rounded up).

## How good

{table}

Greedy: one token after another. Joint: four beams with the CTC head's opinion (`--ctc-weight 0.3`). Synthesized: held-out
sentences by voices that were heard in training. Dev: ten adults and five children of speechocean762's training part that were
kept out. Test: its test part, other speakers. Goals were 12 % for synthesized speech, 35 % for real adults and 50 % for children;
{verdict}

Greedy WER of a dev shard against training steps (synthesized: mean over languages of 14 sentences each; real: 80 utterances of
the dev speakers):

{curve}

## From what

- **Synthesized speech** by espeak-ng (its variants, but for those kept for `data/demo`), flite (kal, kal16, awb, rms, slt) and
  festival (English kal and slt-hts, Italian lp and pc, Czech dita, machac and ph, Finnish lj and mv, Russian nsh), with rooms,
  noise, bands, codecs, clipping, other speeds and vocal tracts.
- **Texts**: the fortunes-* packages of Debian and translations of free programs (clauses of them; none is stored here), generated
  numbers, dates, names and commands, and for English a trigram model of these and of the real speech's transcripts.
- **Real speech**: the training speakers of speechocean762, adults and children (Zhang et al., 2021, arXiv:2104.01378; free for commercial and
  non-commercial use) without the dev speakers: {real}, as recorded, in augmented copies,
  and, later in training, put together anew from their words (`scripts/mini/splice.py`).
{taught}- Never heard in training: the speakers of speechocean762's test part, any test file, Swahili, the voices of `data/demo`.

Training: {steps} steps, {utterances} utterances, {minutes} minutes on {machine}, seed {seed}, Muon and AdamW, bf16{begun}.

## What it is bad at

Anyone but careful readers of short everyday English; conversation, names, long sentences; German, English
and Portuguese spelling beyond common words; real voices in any language but English (it has heard synthesizers only); noise.
It often writes a fluent sentence that was not said. Never rely on it for anything but experiments.

## Made again

    python -m scripts.mini.build --speech hub:mispeech/speechocean762 --out data/mini --minutes {minutes_asked}{options}

Alignment heads (`generation_config.json`), found by `scripts/mini/heads.py`:
{heads}; median distance from the CTC head's alignment {distance}.
"""


TAUGHT = """- **A teacher**: the encoder of {teacher} (Radford et al., 2022, arXiv:2212.04356; MIT), whose states the encoder learned to give
  through a linear map on {some}{more} (`scripts/mini/teacher.py`). None of its tensors is in here.
"""
HEARD = ", and on speech of {heard} whose texts were not used"


def taught_by(training: dict[str, Any]) -> str:
    """The line on the teacher, if there was one."""
    if "teacher" not in training:
        return ""
    every = int(training.get("taught_every", 1))
    some = "all of this speech" if every == 1 else f"about one in {every} utterances of this speech"
    return TAUGHT.format(teacher=training["teacher"], some=some, more=HEARD.format(heard=training["heard"]) if "heard" in training else "")


def begun(training: dict[str, Any]) -> str:
    """From what it went on, and how much of what it learned since is in here."""
    if "from" not in training:
        return ""
    share = f", and of what that changed {100 * training['changed_share']:.0f} % (`scripts/mini/export.py`)" if "changed_share" in training else ""
    return f", on top of {training['from']}{share}"


def options(training: dict[str, Any]) -> str:
    """What else the command that made it was told, on lines of its own."""
    names = {"from": training.get("from"), "teacher": training.get("teacher") and "TEACHER", "heard": training.get("heard") and "HEARD.parquet"}
    names |= {"taught-every": training.get("taught_every"), "share-real": training.get("share_real"), "changed-share": training.get("changed_share")}
    told = " ".join(f"--{name} {value}" for name, value in names.items() if value)
    return f" \\\n        {told}" if told else ""


def machine() -> str:
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if line.startswith("model name")), "")
    return f"{len(os.sched_getaffinity(0))} cores of {cpu or platform.processor()} (shared with other work)"


def curve(log: Path) -> str:
    """The dev measurements of a training log as a Markdown table, at most eight of them, the last included."""
    looks = [entry for entry in map(json.loads, log.read_text(encoding="utf-8").splitlines()) if "dev_en" in entry]
    kept = [looks[round(i * (len(looks) - 1) / 7)] for i in range(8)] if len(looks) > 8 else looks
    lines = ["| steps | synthesized | real |", "|---|---|---|"]
    for entry in kept:
        made = [value for key, value in entry.items() if key.startswith("dev_") and key != "dev_real"]
        real = f"{entry['dev_real']:.0f} %" if "dev_real" in entry else ""
        lines.append(f"| {entry['step']:,} | {sum(made) / len(made):.0f} % | {real} |")
    return "\n".join(lines)


def write(folder: Path, *, table: str, log: Path, verdict: str, real: str, distance: str, seed: int, minutes_asked: float) -> None:
    """Write README.md into an exported folder. `table` is Markdown, from `evaluate.py`."""
    about = json.loads((folder / "asrpeft.json").read_text(encoding="utf-8"))
    heads = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["alignment_heads"]
    size = (folder / "model.safetensors").stat().st_size / 2e6
    training, shape = about["training"], json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = TEXT.format(
        id=about["id"],
        date=time.strftime("%Y-%m-%d"),
        parameters=size,
        encoder=shape["encoder_layers"],
        decoder=shape["decoder_layers"],
        languages=", ".join(about["languages"]),
        table=table,
        curve=curve(log),
        verdict=verdict,
        real=real,
        taught=taught_by(training),
        steps=f"{training['steps']:,}",
        utterances=f"{training['utterances']:,}",
        minutes=training["minutes"],
        begun=begun(training),
        options=options(training),
        machine=machine(),
        seed=seed,
        minutes_asked=f"{minutes_asked:g}",
        heads=heads,
        distance=distance,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
