"""What of a corpus is recognized again: its recordings, ids, speakers and sentences; and a record of that without any text.

    digest = the first 48 bits of a BLAKE2b hash: of a recording's bytes and part (`AudioRef.key`), of an id, of a speaker's name

A `Record` travels with an adapter, so that a later evaluation knows what was trained on. It holds digests alone: who has a
recording, an id or a name can find out whether it was used; nobody can read one back. Of each kind the `MOST` smallest digests
are kept, which are all of them up to 8,192 recordings (some ten hours of short utterances; 64 kB in the manifest). Of a larger
corpus they are a fair sample, fixed by the digests themselves: of what a test shares with 100,000 recordings a twelfth is found,
which leaves a test of fifty of them a chance of 1 in 70 to pass unseen. A wrong alarm has a chance of 3 in 10¹¹ an utterance.
Source: bottom-k sketches, Cohen and Kaplan, 2007, Summarizing data using bottom-k sketches.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from asrpeft.corpus.corpus import Corpus, sentence_key
from asrpeft.corpus.utterance import AudioRef
from asrpeft.errors import BadAudio

BYTES = 6  # of a digest
MOST = {"recordings": 8_192, "ids": 4_096, "speakers": 4_096}


def digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=BYTES).digest(), "big")


@dataclass(frozen=True)
class Trace:
    """Digests of one kind, in order; `count` is how many there were, of which these are the smallest."""

    digests: tuple[int, ...] = field(repr=False)
    count: int

    @classmethod
    def of(cls, digests: Iterable[int], most: int, *, count: int | None = None) -> Trace:
        found = sorted(set(digests))
        return cls(tuple(found[:most]), max(len(found), count or 0))

    @property
    def whole(self) -> bool:
        return len(self.digests) == self.count

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.digests)

    def __contains__(self, one: int) -> bool:
        return one in self._known

    def to_json(self) -> dict[str, Any]:
        packed = b"".join(one.to_bytes(BYTES, "big") for one in self.digests)
        return {"count": self.count, "digests": base64.b64encode(packed).decode()}

    @classmethod
    def from_json(cls, data: Any) -> Trace | None:
        """None for what is no trace: a record that cannot be read says nothing, and costs nothing else."""
        try:
            packed = base64.b64decode(data["digests"], validate=True)
            count = int(data["count"])
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None
        if len(packed) % BYTES:
            return None
        return cls(tuple(int.from_bytes(packed[i : i + BYTES], "big") for i in range(0, len(packed), BYTES)), count)


@dataclass(frozen=True)
class Record:
    """Traces of a corpus: of its recordings, ids and speakers."""

    recordings: Trace
    ids: Trace
    speakers: Trace

    @classmethod
    def of(cls, corpus: Corpus) -> Record:
        """Reads every recording's bytes once, and decodes none; those that cannot be read are left out."""
        recordings = (int(key[: 2 * BYTES], 16) for key in recording_keys(corpus) if key is not None)
        ids, speakers = (digest(u.id) for u in corpus), (digest(name) for name in corpus.speakers)
        return cls(*(Trace.of(found, MOST[kind]) for kind, found in (("recordings", recordings), ("ids", ids), ("speakers", speakers))))

    def __or__(self, other: Record) -> Record:
        """What either has seen: of an adapter that went on from another one."""
        parts = {}
        for kind, most in MOST.items():
            one, two = getattr(self, kind), getattr(other, kind)
            parts[kind] = Trace.of((*one.digests, *two.digests), most, count=max(one.count, two.count))
        return Record(**parts)

    def to_json(self) -> dict[str, Any]:
        return {kind: getattr(self, kind).to_json() for kind in MOST}

    @classmethod
    def from_json(cls, data: Any) -> Record | None:
        read = {kind: Trace.from_json(data.get(kind)) for kind in MOST} if isinstance(data, Mapping) else {}
        parts = {kind: trace for kind, trace in read.items() if trace is not None}
        return cls(**parts) if len(parts) == len(MOST) else None


_KEYS: WeakKeyDictionary[Corpus, tuple[str | None, ...]] = WeakKeyDictionary()  # reading every recording again would cost


def recording_keys(corpus: Corpus) -> tuple[str | None, ...]:
    """The key of each utterance's recording; None where it cannot be read, which reading it for another purpose will tell."""

    def of(audio: AudioRef) -> str | None:
        try:
            return audio.key()
        except BadAudio:
            return None

    if corpus not in _KEYS:
        _KEYS[corpus] = tuple(of(u.audio) for u in corpus)
    return _KEYS[corpus]


@dataclass(frozen=True)
class Overlap:
    """What one part of the data shares with another.

    Attributes:
        part, other: what they are, for people: "the evaluation data 'test.jsonl'", "what 'sw' was trained on".
        utterances: how many `part` has; n_speakers: how many speakers are known in it.
        recordings: ids of the utterances of `part` whose recording is in `other` too.
        ids: those of further utterances whose id is in `other`, though the recording is another.
        speakers: names. sentences: ids of utterances whose sentence is in `other`; () where `other` is only a record.
        whole: whether all of `other` was compared; a record of a large corpus is a sample.
    """

    part: str
    other: str
    utterances: int
    n_speakers: int
    recordings: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    whole: bool = True

    def __bool__(self) -> bool:
        return bool(self.recordings or self.ids or self.speakers or self.sentences)

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "other": self.other,
            "utterances": self.utterances,
            "recordings": len(self.recordings),
            "ids": len(self.ids),
            "speakers": len(self.speakers),
            "sentences": len(self.sentences),
            "whole": self.whole,
            "examples": {"recordings": list(self.recordings[:5]), "speakers": list(self.speakers[:5]), "sentences": list(self.sentences[:5])},
        }


def overlap(part: Corpus, other: Corpus | Record, *, called: Sequence[str]) -> Overlap:
    """What `part` shares with another corpus, or with a record of one.

    Args:    called: what the two are, for people.
    Note:    equal ids of different recordings are told only where the sentence is the same too, or unknown (in a record)
             and most ids are shared: both corpora numbering their files from 1 is no sign of anything.
    """
    sentences: tuple[str, ...] = ()
    if isinstance(other, Record):
        met = [key is not None and int(key[: 2 * BYTES], 16) in other.recordings for key in recording_keys(part)]
        known, whole = {name for name in part.speakers if digest(name) in other.speakers}, other.recordings.whole
    else:
        recordings = set(recording_keys(other)) - {None}
        met = [key in recordings for key in recording_keys(part)]
        known, whole = set(part.speakers) & set(other.speakers), True
        said = {sentence_key(u.text) for u in other} - {""}
        sentences = tuple(u.id for u in part if sentence_key(u.text) in said)
    same = tuple(u.id for u, is_met in zip(part, met, strict=True) if is_met)
    taken = set(same)
    rest = [u for u in part if u.id not in taken]
    if isinstance(other, Record):
        alike = tuple(u.id for u in rest if digest(u.id) in other.ids)
        alike = alike if 2 * len(alike) > len(rest) else ()
    else:
        ids = {(u.id, sentence_key(u.text)) for u in other}
        alike = tuple(u.id for u in rest if (u.id, sentence_key(u.text)) in ids)
    first, second = called
    return Overlap(first, second, len(part), len(part.speakers), same, alike, tuple(sorted(known)), sentences, whole)
