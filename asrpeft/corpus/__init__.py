"""Where utterances come from: Parquet, manifests, folders, Kaldi directories, the Hugging Face hub; checks and splits."""

from asrpeft.corpus.corpus import Corpus, Part, Skipped, Stats
from asrpeft.corpus.read import read
from asrpeft.corpus.utterance import AudioRef, Utterance

__all__ = ["AudioRef", "Corpus", "Part", "Skipped", "Stats", "Utterance", "read"]
