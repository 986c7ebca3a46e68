"""The adapters on one base: attached, routed, merged, detached. They live beside the base, never in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from asrpeft.adapters import adapter as store
from asrpeft.adapters.adapter import Adapter, Manifest
from asrpeft.adapters.attention import NAME as ATTENTION
from asrpeft.adapters.attention import watch
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.fingerprint import fingerprint
from asrpeft.adapters.routing import Ambient, Route
from asrpeft.adapters.sites import Site, site_for
from asrpeft.errors import BadInput, BadRoute, CannotMerge
from asrpeft.methods import configure, method
from asrpeft.methods.layers import Layer, layers_of


class Adapters(nn.Module):
    """A container of named adapters on `base`, a `WhisperForConditionalGeneration`.

    The base's module tree and state dict stay as they are. Its attention implementation is set to `asrpeft`, which gives
    the numbers of `sdpa` wherever there is neither a prefix nor a mask.
    """

    def __init__(self, base: nn.Module, *, base_id: str):
        super().__init__()
        self._base = (base,)  # in a tuple: the container owns adapters, not the base
        self.base_id = base_id
        self.items_ = nn.ModuleDict()
        self.ambient = Ambient()
        self.sites: dict[str, Site] = {}
        self.merged: tuple[str, ...] = ()
        self.layers: dict[str, Layer] = {layer.path: layer for layer in layers_of(base)}
        base.set_attn_implementation(ATTENTION)
        for layer in self.layers.values():
            if layer.kind == "attention":
                watch(layer.module, self.ambient, None)
        self.fingerprint = fingerprint(base)

    # -- what is there -------------------------------------------------------------------------------------------------
    @property
    def base(self) -> nn.Module:
        return self._base[0]

    def __getitem__(self, name: str) -> Adapter:
        """Raises: BadRoute, naming the adapters there are."""
        if name not in self.items_:
            known = ", ".join(self.names()) or "none is attached"
            raise BadRoute(f"There is no adapter {name!r}. Attached: {known}.")
        return self.items_[name]

    def __contains__(self, name: str) -> bool:
        return name in self.items_

    def __len__(self) -> int:
        return len(self.items_)

    def names(self) -> list[str]:
        return list(self.items_.keys())

    # -- attach and detach ---------------------------------------------------------------------------------------------
    def add(
        self,
        method_name: str,
        *,
        name: str,
        where: str | Sequence[str] | None = None,
        settings: dict[str, Any] | None = None,
        language_slot: tuple[str, int] | None = None,
        **manifest: Any,
    ) -> Adapter:
        """Make a fresh adapter and attach it.

        Args:
            where: a pattern (see `asrpeft.adapters.where`); the method's own default if omitted.
            settings: the method's settings; values may be text.
            language_slot: (token, id) of a language token whose place a learned vector takes for this adapter's rows.
            manifest: further manifest fields: `language`, `task`, `context`, …
        Raises: CannotAttach, BadInput.
        """
        cls = method(method_name)
        config = configure(cls, settings or {})
        parts, layers = store.plan_sites(list(self.layers.values()), method_name, where)
        layers = [layer for layer in layers if cls.fits(layer, config)] or layers
        described = Manifest(
            method=method_name, config=dict(vars(config)), where=parts, base_id=self.base_id, base_fingerprint=self.fingerprint,
            sites=[layer.path for layer in layers], language_slot=None if language_slot is None else language_slot[0], **manifest,
        )  # fmt: skip
        made = Adapter(name, described, layers)
        if language_slot is not None:
            made.give_language_vector(self.layers["decoder.embed_tokens"], language_slot[1])
        return self.attach(made)

    def attach(self, adapter: Adapter) -> Adapter:
        name = adapter.name
        if name in self.items_:
            raise BadInput(f"An adapter named {name!r} is attached already. Choose another name, or detach it first.")
        if not name or "." in name:
            raise BadInput(f"{name!r} cannot name an adapter: use letters, digits, '-' and '_'.")
        if self.merged:
            raise BadInput(f"{', '.join(self.merged)} is merged into the base. Call unmerge() before attaching {name!r}.")
        device = next(self.base.parameters()).device
        self.items_[name] = adapter.to(device)
        for layer, piece in adapter.placed():
            site = self.sites.setdefault(layer.path, site_for(layer, self.ambient))
            site.add(name, piece)
        return adapter

    def detach(self, name: str) -> Adapter:
        """Take an adapter off the base. With the last one gone, the base runs as it did before any was attached."""
        adapter = self[name]
        if name in self.merged:
            self.unmerge()
        for path in [path for path, site in self.sites.items() if name in site.pieces]:
            self.sites[path].remove(name)
            if not self.sites[path].pieces:
                del self.sites[path]
        del self.items_[name]
        return adapter

    # -- routing -------------------------------------------------------------------------------------------------------
    @contextmanager
    def route(self, names: Sequence[str | None] | str | None) -> Iterator[Route]:
        """Let each row of the batches inside the `with` block use the adapter named for it (None: the base alone).

        Args:
            names: one name a row, or a single name for batches of any size.
        Raises: BadRoute for an unknown adapter; while computing, for a batch of another size.
        """
        route = names if isinstance(names, Route) else Route(names if names is None or isinstance(names, str) else tuple(names))
        for name in route.distinct:
            self[name]
            if self.merged and name not in self.merged:
                raise BadRoute(f"{', '.join(self.merged)} is merged into the base, so {name!r} cannot be routed. Call unmerge() first.")
        self.ambient.capture_in_checkpoints(self.base)
        with self.ambient.set(route=route):
            yield route

    # -- merge ---------------------------------------------------------------------------------------------------------
    def merge(self, name: str) -> None:
        """Fold an adapter into the base's weights: no cost at inference, and no other route until `unmerge`.

        Raises: CannotMerge if the method has no weight form.
        """
        adapter = self[name]
        if name in self.merged:
            raise BadInput(f"{name!r} is merged already.")
        if not adapter.method.mergeable:
            raise CannotMerge(f"{adapter.method.name} acts on activations and has no weight form: serve it routed.")
        for site in self.sites.values():
            if name in site.pieces:
                site.merge(name)
        self.merged = (*self.merged, name)

    def unmerge(self) -> None:
        """Restore every bit of the base."""
        for site in self.sites.values():
            if site.merged:
                site.unmerge()
        self.merged = ()

    # -- on disk -------------------------------------------------------------------------------------------------------
    def load(self, folder: str | Path, *, name: str | None = None, force: bool = False) -> Adapter:
        """Read an adapter folder and attach it (as `name`, or as the folder is called).

        Raises: BadAdapter, WrongBase.
        """
        manifest, tensors = store.read(folder)
        store.check_base(manifest, self.fingerprint, self.base_id, force=force)
        missing = [path for path in manifest.sites if path not in self.layers]
        if missing:
            raise BadInput(f"{str(folder)!r} acts on layers that this base does not have: {', '.join(missing[:3])}.")
        adapter = Adapter(name or Path(folder).resolve().name.replace(".", "-"), manifest, [self.layers[path] for path in manifest.sites])
        if manifest.language_slot is not None:
            adapter.give_language_vector(self.layers["decoder.embed_tokens"], self.base.generation_config.lang_to_id[manifest.language_slot])
        if manifest.ctc_vocabulary is not None:
            adapter.ctc = CTCHead(self.base.config.d_model, manifest.ctc_vocabulary)
        adapter.restore(tensors, source=repr(str(folder)))
        return self.attach(adapter)

    def describe(self, name: str, **changes: Any) -> None:
        """Set manifest fields of an attached adapter."""
        self[name].manifest = replace(self[name].manifest, **changes)
