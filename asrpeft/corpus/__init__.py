"""Where utterances come from: Parquet, manifests, folders, Kaldi directories, the Hugging Face hub; checks and splits."""

from asrpeft.corpus.corpus import Corpus, Part, Skipped, Stats
from asrpeft.corpus.read import Reading, open_corpus, read
from asrpeft.corpus.utterance import AudioRef, Utterance

__all__ = ["AudioRef", "Corpus", "Part", "Reading", "Skipped", "Stats", "Utterance", "open_corpus", "read"]
