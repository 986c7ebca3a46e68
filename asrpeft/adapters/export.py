"""A recogniser with one adapter folded in, as an ordinary Whisper checkpoint that plain `transformers` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

from asrpeft.errors import BadInput, CannotMerge
from asrpeft.files import replace_folder

INFO, CTC = "asrpeft.json", "ctc.safetensors"
FILES = frozenset({
    "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "normalizer.json", INFO, CTC,
})  # fmt: skip


def export_merged(recognizer: Any, name: str, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write the base with adapter `name` merged: weights, tokenizer, generation and preprocessor configs.

    `asrpeft.json` beside them says what it was made of, which audio contexts it was trained for, and which language token
    stands for a learned language (`language_slots: {"<|yo|>": "klingon"}`), since plain `transformers` knows that language
    by the slot's name. A CTC head goes along. The recogniser is left as it was.

    Args:
        recognizer: a `Recognizer`, nothing merged into it.
    Raises: CannotMerge if the method has no weight form or another adapter is merged; BadInput if the folder is taken.
    """
    adapters, manifest = recognizer.adapters, recognizer.adapters[name].manifest
    if not hasattr(recognizer.tokenizer, "save_pretrained"):
        raise BadInput("The recogniser's tokenizer cannot be saved; load the base from its checkpoint.")
    already = name in adapters.merged
    if not already:
        if adapters.merged:
            raise CannotMerge(f"{', '.join(adapters.merged)} is merged already. Call unmerge() first.")
        adapters.merge(name)
    try:
        return replace_folder(Path(folder), lambda into: _write(recognizer, name, manifest, into), overwrite=overwrite, ours=FILES)
    finally:
        if not already:
            adapters.unmerge()


def _write(recognizer: Any, name: str, manifest: Any, into: Path) -> None:
    recognizer.base.save_pretrained(into, max_shard_size="1TB")
    recognizer.tokenizer.save_pretrained(into)
    WhisperFeatureExtractor(feature_size=recognizer.n_mels).save_pretrained(into)
    contexts = list(dict.fromkeys([*recognizer.info.contexts, manifest.context]))
    spoken = [manifest.language] if manifest.language is not None and manifest.language_slot is None else []
    info: dict[str, Any] = {
        "id": f"{recognizer.info.id}+{name}", "contexts": contexts, "languages": list(dict.fromkeys([*recognizer.info.languages, *spoken])),
        "merged": {"base": recognizer.info.id, "adapter": name, "method": manifest.method, "language": manifest.language, "task": manifest.task},
        "language_slots": recognizer.info.slots | ({} if manifest.language_slot is None else {manifest.language_slot: manifest.language}),
    }  # fmt: skip
    head = recognizer.ctc_head(name)
    if head is not None:
        info["ctc_vocabulary"] = list(head.vocabulary)
        save_file({n: t.detach().cpu().contiguous() for n, t in head.state_dict().items()}, into / CTC)
    (into / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
