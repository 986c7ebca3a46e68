"""Adapters on the Hugging Face hub: a folder goes up in one commit, with a card that says what it is, and comes down whole.

    push("adapters/sw", "me/whisper-small-swahili")        → https://huggingface.co/me/whisper-small-swahili
    pull("me/whisper-small-swahili", "adapters/sw")

A repository that has a README keeps it. The hub's library finds the token (`hf auth login`, or HF_TOKEN).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from asrpeft.adapters.adapter import MANIFEST, TENSORS, Manifest, read
from asrpeft.errors import BadInput, Failure
from asrpeft.files import replace_folder

CARD = "README.md"
_HOME = "https://huggingface.co"


Fetch = Callable[[str, str, str | None], Path]


class Api(Protocol):
    """What is asked of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any: ...

    def file_exists(self, repo_id: str, filename: str) -> bool: ...

    def create_commit(self, repo_id: str, operations: Any, *, commit_message: str) -> Any: ...


def check(repo: str, *, api: Api | None = None) -> None:
    """Look, without the network, whether there is any hope of pushing to `repo`: before hours of training, not after.

    Raises: BadInput for a name that is none, without a token, and where the hub's library is set to be offline.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BadInput(f"--push {repo!r} is no repository's name: {str(error).split(chr(10))[0]} Write OWNER/NAME.") from None
    if repo.count("/") != 1:
        raise BadInput(f"--push {repo!r} names no owner. Write OWNER/NAME, such as {'me/' + repo}.")
    if api is None and constants.is_offline_mode():
        raise BadInput("--push needs the network, and HF_HUB_OFFLINE says that there is none. Unset it, or push later with `asrpeft adapter push`.")
    if api is None and get_token() is None:
        raise BadInput("--push needs an access token with write permission: run `hf auth login`, or set HF_TOKEN.")


def push(folder: str | Path, repo: str, *, private: bool | None = None, message: str | None = None, api: Api | None = None) -> str:
    """Put an adapter's folder into a repository of the hub, which is made if there is none. Returns its address.

    Args:
        repo: OWNER/NAME.
        private: whether a repository that is made is private; None takes the owner's setting.
        message: of the commit.
        api: whom to ask instead of the hub.
    Raises: BadAdapter for a folder that is none or damaged; BadInput as `check`; Failure where the hub refuses, with its reason.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    manifest, _ = read(folder)  # whole, undamaged: what is pushed can be loaded
    check(repo, api=api)
    hub: Api = HfApi() if api is None else api
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=(folder / name).read_bytes()) for name in (MANIFEST, TENSORS)]
        if not hub.file_exists(repo, CARD):
            files.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=card(manifest, repo).encode()))
        hub.create_commit(repo, files, commit_message=message or f"{manifest.method} adapter for {manifest.base_id}")
    except Exception as error:  # of the hub, of its client, of the network: they have no common ancestor
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise Failure(
            f"The hub did not take the adapter: {reason}. It is in {str(folder)!r} as before; try again with `asrpeft adapter push {folder} {repo}`."
        ) from None
    return f"{_HOME}/{repo}"


def pull(repo: str, folder: str | Path, *, revision: str | None = None, overwrite: bool = False, fetch: Fetch | None = None) -> Path:
    """Bring an adapter of the hub into a folder: its two files alone, checked as any adapter is that is loaded.

    Args:
        repo: OWNER/NAME. revision: a branch, tag or commit; None takes what is newest.
        overwrite: replace an adapter that is there.
        fetch: whom to ask instead of the hub: (repository, file's name, revision) → the file's path.
    Raises: BadAdapter where what is there is none, or damaged; BadInput for a folder that holds something else; Failure where the hub
        does not give it, with its reason.
    """
    from huggingface_hub import hf_hub_download

    def ask(name: str) -> Path:
        try:
            if fetch is not None:
                return fetch(repo, name, revision)
            return Path(hf_hub_download(repo, name, revision=revision))
        except Exception as error:  # of the hub, of its client, of the network: they have no common ancestor
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise Failure(
                f"The hub did not give {name} of {repo!r}: {reason} An adapter of asrpeft is a repository with {MANIFEST} and {TENSORS}; one of "
                f"peft is downloaded and read with `asrpeft adapter import`."
            ) from None

    found = {name: ask(name).read_bytes() for name in (MANIFEST, TENSORS)}

    def write(into: Path) -> None:
        for name, content in found.items():
            (into / name).write_bytes(content)
        read(into)  # before it takes its place

    return replace_folder(Path(folder), write, overwrite=overwrite, ours={MANIFEST, TENSORS})


def card(manifest: Manifest, repo: str) -> str:
    """The README of a repository, in Markdown: what the hub's pages sort by, how to use it, what it was measured at."""
    named = [f"base_model: {json.dumps(manifest.base_id)}", "base_model_relation: adapter"] if _on_the_hub(manifest.base_id) else []
    spoken = [f"language: {json.dumps(manifest.language)}"] if manifest.language and 2 <= len(manifest.language) <= 3 else []
    head = [
        "---",
        "library_name: asrpeft",
        "pipeline_tag: automatic-speech-recognition",
        *named,
        *spoken,
        f"tags: [asrpeft, whisper, adapter, {json.dumps(manifest.method)}]",
        "---",
    ]
    settings = ", ".join(f"{key}={value}" for key, value in manifest.config.items())
    # A folder's path says where it lay on the machine that trained, and is nobody else's business.
    base, model = (manifest.base_id, manifest.base_id) if _on_the_hub(manifest.base_id) else (Path(manifest.base_id).name, "FOLDER_OF_THE_BASE")
    facts = {
        "base": base,
        "method": f"{manifest.method} ({settings})",
        "layers": ", ".join(manifest.where),
        "language": manifest.language,
        "task": manifest.task,
        "audio context": manifest.context,
        **_scores(manifest),
    }
    rows = [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value]
    use = [
        "    pip install asrpeft",
        f"    asrpeft adapter pull {repo} --out adapter",
        f"    asrpeft transcribe interview.m4a --model {model} --adapter adapter",
    ]
    return "\n".join(
        [
            *head,
            "",
            f"# {repo.split('/')[-1]}",
            "",
            f"An adapter for the speech recognizer `{base}`, trained with asrpeft.",
            "",
            "| what | value |",
            "|---|---|",
            *rows,
            "",
            "To use it:",
            "",
            *use,
            "",
        ]
    )


def _on_the_hub(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and "\\" not in base


def _scores(manifest: Manifest) -> dict[str, str]:
    """WER before and after, where the adapter was evaluated."""
    told = {"WER of the base": "before", "WER with the adapter": "after"}
    found = {what: score.get("wer") for what, when in told.items() if isinstance(score := manifest.scores.get(when), dict)}
    return {what: f"{100 * wer:.1f} %" for what, wer in found.items() if isinstance(wer, int | float)}


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
