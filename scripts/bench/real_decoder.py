"""What rests on a decoder, checked on one that this project did not train: adaptation, streams and export.

    python -m scripts.bench.relearn_tokens FOLDER --speech DIR --out runs/tokens --steps 2500        # where a checkpoint has no token table
    python -m scripts.bench.real_decoder runs/tokens/model --speech DIR [--minutes 8] [--json]

    adaptation   LoRA by cross-entropy on the children of the training part; the test's children, before and after, by the paired test
    streams      what each policy commits of adults' utterances with pauses between them, against the same heard as a recording: WER, and how long
                 after a word's end it is committed, without the computing
    export       the adapter folded into a checkpoint that plain `transformers` reads: does its `generate` write the same?

When its words were said: `word_times.py`. DIR holds speechocean762/{train,test}.parquet (Zhang et al., 2021, arXiv:2104.01378).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft import load  # noqa: E402
from asrpeft.adapters.export import export_merged  # noqa: E402
from asrpeft.audio.features import SAMPLE_RATE  # noqa: E402
from asrpeft.corpus import Corpus  # noqa: E402
from asrpeft.jobs.evaluate import evaluate  # noqa: E402
from asrpeft.jobs.finetune import finetune  # noqa: E402
from asrpeft.jobs.transcribe import transcribe  # noqa: E402
from asrpeft.options import AdapterOptions, Data, DecodingOptions, OutputOptions, TrainingOptions  # noqa: E402
from asrpeft.recognizer import Recognizer  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from asrpeft.scoring import compare, score  # noqa: E402
from asrpeft.streaming import Session, policies, stream_decoder  # noqa: E402
from asrpeft.streaming.events import transcript  # noqa: E402
from scripts.bench.ctc_start import DEV_SHARE  # noqa: E402
from scripts.bench.real_encoder import TASKS, part  # noqa: E402

LANG = "en"
PAUSE_S = 1.2
ADAPTER = "children"


# -- adaptation ---------------------------------------------------------------------------------------------------------------------
def adapted(recognizer: Recognizer, speech: Path, *, minutes: float, limit: int, seed: int) -> dict[str, Any]:
    """Leaves the adapter in the recognizer, as `ADAPTER`."""
    task = TASKS["children"]
    train, dev = part(task, speech, "train").split_by_speaker(DEV_SHARE, seed)
    done = finetune(
        recognizer,
        Data(train, dev=dev, check_nonspeech=False),
        lang=LANG,
        method=AdapterOptions("lora", name=ADAPTER),
        out=OutputOptions(record=False),
        training=TrainingOptions(minutes=minutes, loss="ce", seed=seed, dev_utterances=60),
        progress=lambda event: print(event, file=sys.stderr) if "Step" not in type(event).__name__ else None,
    ).to_json()
    test = part(task, speech, "test").shuffle(seed)[:limit]
    found = {}
    for beams in (1, 4):
        how = DecodingOptions(beams=beams, ctc_weight=0.0)
        base, own = (one.score for one in evaluate(recognizer, test, adapters=[ADAPTER], lang=LANG, decoding=how).systems)
        found[str(beams)] = {"base": base.wer, "adapted": own.wer, "test": compare(base, own, seed=seed).to_json()}
    return {"steps": done["steps"], "trained": done["trained_parameters"], "utterances": len(test), "beams": found}


# -- streams ------------------------------------------------------------------------------------------------------------------------
def streams(recognizer: Recognizer, corpus: Corpus) -> dict[str, Any]:
    """Each speaker's utterances one after another, as a recording and as a stream under each policy."""
    speakers, pause = corpus.by_speaker().values(), np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    talks = [np.concatenate([piece for utterance in own for piece in (utterance.samples(), pause)]) for own in speakers]
    texts = [" ".join(utterance.text for utterance in own) for own in speakers]
    whole = [" ".join(segment.text for segment in transcribe(recognizer, samples, lang=LANG, vad=True)) for samples in talks]
    found: dict[str, Any] = {"recording": {"wer": score(texts, whole).wer}}
    for policy in policies.names():
        written, late = [], []
        for samples in talks:
            # The clock stands still: latencies are those of the policy, whatever the machine.
            with Session(stream_decoder(recognizer, lang=LANG), policy=policy, clock=lambda: 0.0) as session:
                events = [event for at in range(0, len(samples), 1_600) for event in session.feed(samples[at : at + 1_600])] + session.close()
            written.append(transcript(events))
            late += [event.latency for event in events if event.type == "commit"]
        found[policy] = {"wer": score(texts, written).wer, "latency_s": statistics.median(late) if late else None, "commits": len(late)}
    return found


# -- export -------------------------------------------------------------------------------------------------------------------------
def exported(recognizer: Recognizer, corpus: Corpus) -> dict[str, Any]:
    """The share of utterances that the exported checkpoint writes as we do, greedily on 30 s."""
    own = evaluate(recognizer, corpus, adapters=[ADAPTER], lang=LANG, decoding=DecodingOptions(context="full", ctc_weight=0.0)).systems[1].score
    with tempfile.TemporaryDirectory() as folder:
        path = export_merged(recognizer, ADAPTER, Path(folder) / "merged")
        model, processor = WhisperForConditionalGeneration.from_pretrained(path), WhisperProcessor.from_pretrained(path)
        told = {"language": LANG, "task": "transcribe"} if recognizer.multilingual else {}
        theirs = []
        for utterance in corpus:
            features = processor(utterance.samples(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            theirs += processor.batch_decode(model.generate(features, **told), skip_special_tokens=True)
    ours = [row.raw_hypothesis for row in own.rows]
    references = [row.reference for row in own.rows]
    same = sum(" ".join(a.split()) == " ".join(b.split()) for a, b in zip(ours, theirs, strict=True))
    return {"utterances": len(ours), "same": same, "wer": own.wer, "wer_of_transformers": score(references, theirs).wer}


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Markdown, of what was measured."""
    rows = []
    for beams, one in found["adaptation"]["beams"].items():
        test = one["test"]
        low, high = test["interval"]
        rows.append((beams, f"{100 * one['base']:.1f}", f"{100 * one['adapted']:.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", f"{test['p']:.4f}"))
    yield Table.of("Children, WER %", ("beams", "base", "adapted", "difference", "p"), rows)
    yield Table.of(
        "Streams",
        ("heard as", "WER %", "latency, s"),
        [(name, f"{100 * one['wer']:.1f}", "" if one.get("latency_s") is None else f"{one['latency_s']:.2f}") for name, one in found["streams"].items()],
    )
    one = found["export"]
    cells = (one["utterances"], one["same"], f"{100 * one['wer']:.1f}", f"{100 * one['wer_of_transformers']:.1f}")
    yield Table.of("Exported", ("utterances", "the same text", "WER % ours", "WER % generate"), [cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a Whisper checkpoint with a token table: a folder, or a name on the hub")
    parser.add_argument("--speech", type=Path, required=True, help="the folder of the corpora, as of real_encoder.py")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training the adapter")
    parser.add_argument("--utterances", type=int, default=150, help="of each test; half as many are exported, whose 30 s take long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recognizer = load(given.base, threads=given.threads)
    adults = part(TASKS["adults"], given.speech, "test")
    few = adults.filter(lambda u: u.speaker in set(adults.speakers[: max(1, given.utterances // 20)]))
    found: dict[str, Any] = {"streams": streams(recognizer, few)}
    found["adaptation"] = adapted(recognizer, given.speech, minutes=given.minutes, limit=2 * given.utterances, seed=given.seed)
    found["export"] = exported(recognizer, part(TASKS["children"], given.speech, "test").shuffle(given.seed)[: given.utterances // 2])
    found |= {"base": Path(given.base).name, "seed": given.seed, "threads": given.threads, "date": datetime.now(UTC).date().isoformat()}
    if given.json:
        print(json.dumps(found))
        return
    for table in tables(found):
        print(table)


if __name__ == "__main__":
    main()
