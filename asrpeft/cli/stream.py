"""`asrpeft stream FILE|-`: transcribe audio as it comes, with a chosen adapter."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, Annotated, cast

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import print_json, teller, write_line
from asrpeft.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

RATE = 16_000


def add_to(app: typer.Typer) -> None:
    app.command("stream")(stream)


def stream(
    source: Annotated[str, typer.Argument(help="A recording, or - for raw 16 kHz mono 16-bit little-endian PCM on standard input.")],
    adapter: o.Adapter = None,
    speakers: o.SpeakersDir = None,
    speaker: o.Speaker = None,
    model: o.Model = None,
    lang: o.Spoken = None,
    task: o.OwnTask = None,
    context: o.Context = None,
    policy: Annotated[
        str, typer.Option("--policy", help="When words are committed: vad at the end of speech, local-agreement when two hypotheses agree.")
    ] = "vad",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Settings of the policy: --set step_s=0.5 min_silence_s=0.4.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Text told to have come before: names and spellings to expect.")] = None,
    chunk: Annotated[float, typer.Option("--chunk", help="Seconds of audio handed over at a time; the transcript does not depend on it.")] = 0.1,
    real_time: Annotated[bool, typer.Option("--real-time", help="Hand a recording over no faster than it was spoken.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Fold the adapter into the weights first: no cost, same text.")] = False,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    force: o.Force = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Transcribe a stream: committed text only grows, silence gives nothing.

    --json: one event a line, {"type": "partial"|"commit"|"final", "text", "start", "end", "words", "latency", "language"}; times in seconds
    of audio since the stream began. The commits and the final together are the transcript.
    """
    from asrpeft.streaming import Session, stream_decoder
    from asrpeft.streaming import stream as events_of

    if not 0 < chunk <= 30:
        raise BadInput(f"--chunk must be above 0 and at most 30 seconds, got {chunk}.")
    say = teller(quiet=quiet, as_json=True)
    chunks = from_stdin(chunk) if source == "-" else from_file(source, chunk, real_time=real_time)
    folder = o.voice_of(speakers, speaker, adapter, say=say)
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    name = o.attach_one(recognizer, folder, merge=merge, force=force)
    task = o.task_of(recognizer, [name] if name else [], task)
    o.warn_of_language(recognizer, [name] if name else [], lang)
    hear = stream_decoder(recognizer, adapter=name, lang=lang, task=task, context=context, prompt=prompt, options=o.search(beams, ctc_weight))
    with Session(hear, policy=policy, settings=o.pairs("--set", settings)) as session:
        for event in events_of(session, chunks):
            if json:
                print_json(event.to_json())
            elif event.type == "partial":
                if sys.stdout.isatty() and not quiet:
                    write_line(f"… {event.text}"[-200:], open_=True)
            elif event.text:
                write_line(f"[{event.start:7.2f} – {event.end:7.2f}] {event.text}")


def from_file(source: str, chunk: float, *, real_time: bool) -> Iterator[np.ndarray]:
    """A recording in pieces of `chunk` seconds; read to its end once (and refused, if it cannot be) before the first is asked for."""
    from asrpeft.audio import recording

    heard = recording(source)

    def pieces() -> Iterator[np.ndarray]:
        began, size, given = time.monotonic(), max(1, round(chunk * RATE)), 0
        for piece in heard.pieces(size):
            given += len(piece)
            if real_time:
                time.sleep(max(0.0, given / RATE - (time.monotonic() - began)))
            yield piece

    return pieces()


def from_stdin(chunk: float) -> Iterator[np.ndarray]:
    """Raw 16-bit PCM from standard input, as it comes; a last odd byte is dropped."""
    import numpy as np

    source, rest = cast(BufferedReader, sys.stdin.buffer), b""
    while data := source.read1(2 * max(1, round(chunk * RATE))):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32_768
