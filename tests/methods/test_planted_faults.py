"""The common tests are worth what they catch: methods that are wrong on purpose, and the promise that each of them breaks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from asrpeft.methods import LayerAdapter, configure
from asrpeft.methods.activation.lst import LST
from asrpeft.methods.activation.parallel import Parallel
from asrpeft.methods.base import gaussian, zeros
from asrpeft.methods.map.boft import BOFT, butterfly
from asrpeft.methods.map.dora import DoRA
from asrpeft.methods.map.oft import cayley, turned
from asrpeft.methods.tokens.dept import DePT
from asrpeft.methods.tokens.encoder_prompt import EncoderPrompt
from asrpeft.methods.weight.loha import LoHa
from asrpeft.methods.weight.lora import LoRA
from tests.methods import test_every_method_on_a_recognizer as on_recognizer
from tests.methods import test_every_method_on_every_layer as on_layers
from tests.methods.cases import bench, make_layer, small
from tests.methods.planted import planted


# -- weight methods ------------------------------------------------------------------------------------------------------
class OtherScale(LoRA):
    def forward(self, x, y, layer):
        return y + 0.5 * (super().forward(x, y, layer) - y)


class WrongScale(LoHa):
    """The routed and the merged form agree, and both forget alpha."""

    def delta(self, w):
        return (self.b1 @ self.a1) * (self.b2 @ self.a2) / self.config.rank


class DropoutInEvaluation(LoRA):
    def forward(self, x, y, layer):
        return super().forward(F.dropout(x, 0.5) if x.is_floating_point() else x, y, layer)


class NotZeroAtTheStart(LoRA):
    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        nn.init.normal_(self.b), nn.init.normal_(self.a)


class Uncounted(LoRA):
    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.extra = zeros(1)


class RowsMixed(LoRA):
    def forward(self, x, y, layer):
        return super().forward(x, y, layer) + 0.1 * (super().forward(x, y, layer) - y).mean(dim=0, keepdim=True)


class NotMerged(LoRA):
    """Adds to the output what it forgets in the weight."""

    def forward(self, x, y, layer):
        return super().forward(x, y, layer) + self.b.sum()


class KeptTooLong(LoHa):
    """Remembers its own ΔW, past the step that changes it."""

    def delta(self, w):
        if not hasattr(self, "_own"):
            self._own = super().delta(w)
        return self._own


# -- weight maps ---------------------------------------------------------------------------------------------------------
class NormOfColumns(DoRA):
    def merged(self, w, b):
        v = w + self.s * (self.b @ self.a)
        return (w.norm(dim=0) / v.detach().norm(dim=0)) * v * (1 + self.m / w.norm(dim=1))[:, None], b


class SecondBlock(BOFT):
    """Right with one factor; with two, the order is not undone and a fresh one is no identity."""

    def merged(self, w, b):
        for j, q in enumerate(self.q):
            w = turned(w[:, butterfly(w.shape[1], self.block, j)], cayley(q, self.block))
        return w * (1 + self.g)[:, None], b


class NotOrthogonal(BOFT):
    """W'(I − Q) in place of the Cayley transform: neutral at the start, the same routed and merged, and no rotation."""

    def merged(self, w, b):
        if len(self.q) == 1:
            size = self.block
            row, column = torch.triu_indices(size, size, 1)
            skew = self.q[0].new_zeros(len(self.q[0]), size, size)
            skew[:, row, column] = self.q[0]
            return turned(w, torch.eye(size) - (skew - skew.mT)) * (1 + self.g)[:, None], b
        return super().merged(w, b)


# -- activation edits ----------------------------------------------------------------------------------------------------
class Edit(LayerAdapter):
    kinds = ("linear",)
    mergeable = False

    @dataclass(frozen=True)
    class Config:
        width: int = 3

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.down, self.up = gaussian(layer.shape[0], config.width), zeros(config.width, layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return 2 * layer.shape[0] * config.width

    def edit(self, y):
        return torch.tanh(y @ self.down.to(y.dtype)) @ self.up.to(y.dtype)

    def forward(self, x, y, layer):
        return y + self.edit(y)


class EditOfMeanRow(Edit):
    def forward(self, x, y, layer):
        return y + self.edit(y.mean(dim=0, keepdim=True))


class EditDropsOut(Edit):
    def forward(self, x, y, layer):
        return y + F.dropout(self.edit(y), 0.3)


class EditUnreached(Edit):
    def forward(self, x, y, layer):
        return y + self.edit(y).detach() + self.up.sum()


# -- places between modules, virtual tokens ------------------------------------------------------------------------------
class ForgetsScale(Parallel):
    def forward(self, x, y, layer):
        return self.added(y, self.bottleneck(x), layer)


class ReadsTheOutput(Parallel):
    """A bottleneck behind the feed-forward, and not beside it."""

    def forward(self, x, y, layer):
        return super().forward(y, y, layer)


class ParallelOfMeanRow(Parallel):
    def forward(self, x, y, layer):
        return super().forward(x.mean(dim=0, keepdim=True).expand_as(x), y, layer)


class NormOverFrames(LST):
    def forward(self, x, y, layer):
        s = self.down[0](x[0].detach())
        for h, down, q, p, gate in zip(x[1:], self.down[1:], self.q, self.p, self.gate.sigmoid()):
            s = gate * down(h.detach()) + (1 - gate) * s
            s = s + p(F.gelu(q(F.layer_norm(s.mT, s.shape[1:2]).mT)))
        return y + s @ self.up.mT


class SecondLayer(LST):
    """What the first layer gives in place of what the others give."""

    def forward(self, x, y, layer):
        return super().forward((x[0], *[x[1]] * (len(x) - 1)), y, layer)


class PromptDropsOut(EncoderPrompt):
    def rows(self):
        return tuple(F.dropout(p, 0.5) for p in self.p)


class TextDropsOut(DePT):
    def forward(self, x, y, layer):
        return y + F.dropout(super().forward(x, y, layer) - y, 0.5)


class FramesOfMeanRow(EditOfMeanRow):
    kinds = ("encoder",)
    where = "encoder"


class StackUnreached(Edit):
    """Reads its first layer without a gradient for what it reads it with."""

    kinds = ("stack",)

    def forward(self, x, y, layer):
        return y + self.edit(x[0]).detach() + self.up.sum()


class FromTheFirstOn(DePT):
    """Counts the tokens of a step from 0, whatever is in the cache."""

    def forward(self, x, y, layer):
        change = (self.a @ self.b)[: y.shape[1]]
        return torch.cat([y[:, : len(change)] + change.to(y.dtype), y[:, len(change) :]], dim=1)


class HearsPadding(Edit):
    """Adds the mean of a row's frames, those that are padding included."""

    kinds = ("encoder",)
    where = "encoder"

    def forward(self, x, y, layer):
        return y + self.edit(y.mean(dim=1, keepdim=True))


class LooksAhead(HearsPadding):
    kinds = ("decoder",)
    where = "decoder"


FAULTS = {
    OtherScale: ("linear", on_layers.test_merged_equals_routed_and_unmerge_restores_every_bit),
    WrongScale: ("linear", on_layers.test_the_merged_weight_is_that_of_the_equation_written_literally),
    DropoutInEvaluation: ("linear", on_layers.test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes),
    NotZeroAtTheStart: ("strided conv1d", on_layers.test_a_new_adapter_changes_nothing),
    Uncounted: ("linear", on_layers.test_the_parameter_count_equals_the_formula),
    RowsMixed: ("linear", on_layers.test_a_row_of_a_mixed_batch_equals_that_row_alone),
    NotMerged: ("linear", on_layers.test_merged_equals_routed_and_unmerge_restores_every_bit),
    KeptTooLong: ("linear", on_layers.test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes),
    NormOfColumns: ("linear", on_layers.test_the_merged_weight_is_that_of_the_equation_written_literally),
    SecondBlock: ("second feed-forward", on_layers.test_a_new_adapter_changes_nothing),
    NotOrthogonal: ("linear", on_layers.test_the_merged_weight_is_that_of_the_equation_written_literally),
    EditOfMeanRow: ("linear", on_layers.test_a_row_of_a_mixed_batch_equals_that_row_alone),
    EditDropsOut: ("linear", on_layers.test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes),
    EditUnreached: ("linear", on_layers.test_only_adapter_parameters_get_gradient_and_every_one_does_within_two_steps),
    ForgetsScale: ("encoder feed-forward", on_layers.test_the_edit_is_that_of_the_equation_written_literally),
    ReadsTheOutput: ("decoder feed-forward", on_layers.test_the_edit_is_that_of_the_equation_written_literally),
    ParallelOfMeanRow: ("decoder feed-forward", on_layers.test_a_row_of_a_mixed_batch_equals_that_row_alone),
    NormOverFrames: ("encoder stack", on_layers.test_the_edit_is_that_of_the_equation_written_literally),
    SecondLayer: ("decoder stack", on_layers.test_the_edit_is_that_of_the_equation_written_literally),
    PromptDropsOut: ("frames", on_layers.test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes),
    TextDropsOut: ("text", on_layers.test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes),
    FramesOfMeanRow: ("frames", on_layers.test_a_row_of_a_mixed_batch_equals_that_row_alone),
    StackUnreached: ("encoder stack", on_layers.test_only_adapter_parameters_get_gradient_and_every_one_does_within_two_steps),
}
FAULTS_ON_A_RECOGNIZER = {
    FromTheFirstOn: on_recognizer.test_token_by_token_with_a_cache_equals_all_at_once,
    LooksAhead: on_recognizer.test_token_by_token_with_a_cache_equals_all_at_once,
    HearsPadding: on_recognizer.test_a_row_of_a_mixed_batch_equals_that_row_alone,
}


def held_to(promise, kind, tried):
    """Call the test of a promise on the planted method."""
    if "stirred" in inspect.signature(promise).parameters:
        promise(bench("planted", kind, tried).perturb())
    else:
        promise("planted", kind, tried)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_method_that_is_wrong_on_purpose_is_caught_by_the_promise_that_it_breaks(fault):
    kind, promise = FAULTS[fault]
    with planted(fault):
        outcomes = []
        for tried in fault.tries:
            try:
                held_to(promise, kind, tried)
            except (AssertionError, RuntimeError) as error:
                outcomes.append(error)
        assert outcomes, f"{fault.__name__} passes {promise.__name__}"


@pytest.mark.parametrize("fault", FAULTS_ON_A_RECOGNIZER, ids=lambda fault: fault.__name__)
def test_a_method_that_is_wrong_only_in_a_recognizer_is_caught_there(fault):
    with planted(fault), pytest.raises(AssertionError):
        FAULTS_ON_A_RECOGNIZER[fault](on_recognizer.attached("planted", None))


@pytest.mark.parametrize("right", [LoRA, LoHa, DoRA, BOFT, Edit, Parallel, LST, EncoderPrompt, DePT], ids=lambda right: right.__name__)
def test_the_methods_that_the_faults_were_made_of_pass(right):
    with planted(type(right.__name__, (right,), {})):
        for kind, promise in set(FAULTS.values()):
            for tried in right.tries:
                fits = right.fits(make_layer(kind), configure(right, small("planted", **tried)))
                if not fits or "merged" in promise.__name__ and not right.mergeable or "edit" in promise.__name__ and right.mergeable:
                    continue
                try:
                    held_to(promise, kind, tried)
                except pytest.skip.Exception:
                    pass
