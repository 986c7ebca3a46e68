import numpy as np
import pytest
import torch

from asrpeft.audio.augment import (
    PRESETS,
    Augmentation,
    add_noise,
    augmentation,
    clip,
    gain,
    generator,
    reverberate,
    room_response,
    spec_augment,
    speed,
    telephone,
)
from asrpeft.errors import BadInput
from tests.audio.sounds import chirp


def tone(hertz: float, seconds: float = 1.0) -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * 16_000)) / 16_000)


def loudest_hertz(samples: torch.Tensor) -> float:
    return float(torch.fft.rfft(samples).abs().argmax()) * 16_000 / samples.numel()


def level(samples: torch.Tensor) -> float:
    return float(samples[2_000:-2_000].square().mean().sqrt())


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 1.13, 0.57, 2.0])
def test_speed_changes_length_and_pitch_together(factor):
    fast = speed(tone(1_000.0), factor)
    assert fast.numel() == pytest.approx(16_000 / factor, abs=2)
    assert loudest_hertz(fast) == pytest.approx(1_000.0 * factor, rel=0.01)


@pytest.mark.parametrize("color", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_is_as_far_below_the_speech_as_asked(color, snr_db):
    speech = torch.from_numpy(chirp(1.3))
    noise = add_noise(speech, snr_db, generator(1), color=color) - speech
    assert 10 * torch.log10(speech.square().mean() / noise.square().mean()) == pytest.approx(snr_db, abs=0.1)


def test_brown_noise_is_lower_than_white_noise():
    speech = torch.from_numpy(chirp(2.0))
    centroid = {}
    for color in (0.0, 2.0):
        spectrum = torch.fft.rfft(add_noise(speech, 0.0, generator(1), color=color) - speech).abs().square()
        centroid[color] = float((spectrum * torch.arange(len(spectrum))).sum() / spectrum.sum())
    assert centroid[2.0] < 0.1 * centroid[0.0]


def test_silence_stays_silence_in_noise():
    assert not add_noise(torch.zeros(8_000), 10.0, generator(1)).any()


def test_a_room_response_has_unit_energy_its_direct_share_and_its_decay():
    response = room_response(0.5, 0.6, generator(3))
    energy = response.square()
    assert float(energy.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(energy[0]) == pytest.approx(0.6, abs=1e-4)
    early, late = energy[400:2_000].mean(), energy[4_400:6_000].mean()
    assert 10 * float(torch.log10(early / late)) == pytest.approx(60 * 4_000 / 8_000, abs=3)


def test_reverberation_prolongs_a_click_and_keeps_the_length():
    click = torch.zeros(16_000)
    click[1_000] = 1.0
    wet = reverberate(click, room_response(0.4, 0.5, generator(1)))
    assert wet.shape == click.shape and wet[2_000:6_000].abs().mean() > 1e-4 and not wet[:990].abs().max() > 1e-4


@pytest.mark.parametrize("hertz, kept", [(60, False), (1_000, True), (2_500, True), (6_000, False)])
def test_a_telephone_keeps_three_hundred_to_three_thousand_four_hundred_hertz(hertz, kept):
    ratio = level(telephone(tone(hertz))) / level(tone(hertz))
    assert ratio > 0.8 if kept else ratio < 0.15


def test_gain_is_in_decibels_and_clipping_flattens_peaks():
    assert level(gain(tone(440.0), -20.0)) == pytest.approx(level(tone(440.0)) / 10, rel=1e-4)
    flat = clip(tone(440.0), 0.5)
    assert float(flat.abs().max()) == pytest.approx(0.15, rel=1e-3) and (flat.abs() > 0.1499).float().mean() > 0.5


def masked_rows_and_columns(before, after):
    changed = before != after
    return changed.all(dim=1).sum().item(), changed.all(dim=0).sum().item()


def test_spec_augment_masks_whole_bands_and_stretches_with_the_mean_of_the_speech():
    features = torch.randn(80, 400, generator=generator(0))
    after = spec_augment(features, 300, generator(1), time_masks=1, time_width=40, freq_masks=1, freq_width=20)
    rows, columns = masked_rows_and_columns(features[:, :300], after[:, :300])
    assert 0 < rows < 20 and 0 < columns < 40
    values = after[after != features].unique()
    torch.testing.assert_close(values, features[:, :300].mean().expand_as(values), atol=1e-5, rtol=0)


def test_spec_augment_never_touches_the_silence_after_the_speech():
    features = torch.randn(80, 400, generator=generator(0))
    for n_frames in (0, 1, 3, 100):
        for seed in range(20):
            assert torch.equal(spec_augment(features, n_frames, generator(seed))[:, n_frames:], features[:, n_frames:])


def test_spec_augment_masks_at_most_its_share_of_a_short_utterance():
    features = torch.randn(80, 20, generator=generator(0))
    for seed in range(50):
        _, columns = masked_rows_and_columns(features, spec_augment(features, 20, generator(seed), freq_masks=0))
        assert columns <= 8  # two stretches, a fifth each


def test_bands_scale_with_the_number_of_mel_channels():
    widest = max(
        masked_rows_and_columns(f, spec_augment(f, 300, generator(s), time_masks=0, freq_masks=1))[0]
        for s in range(200)
        for f in [torch.randn(128, 300, generator=generator(s))]
    )
    assert 27 < widest <= 43


def test_no_augmentation_touches_the_global_chance():
    torch.manual_seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    strong = Augmentation(speeds=(0.9, 1.1), reverb=1, noise=1, loudness=1, clipping=1, telephone=1, masking=1)
    strong.features(torch.zeros(80, 100), 100, "a", 0), strong.samples(torch.from_numpy(chirp(1.0)), "a", 0)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()


def outcome(what: Augmentation, utterance: str, epoch: int) -> torch.Tensor:
    samples = what.samples(torch.from_numpy(chirp(0.8)), utterance, epoch)
    features = what.features(torch.linspace(0, 1, 8_000).view(80, 100), 100, utterance, epoch)
    return torch.cat([samples, features.flatten()])


@pytest.mark.parametrize("name", PRESETS)
def test_what_happens_to_an_utterance_depends_on_seed_utterance_and_epoch_alone(name):
    first = [outcome(augmentation(name, seed=3), u, e) for u in "ab" for e in (0, 1)]
    torch.rand(17)  # whatever else draws, and in whatever order
    again = [outcome(augmentation(name, seed=3), u, e) for e in (1, 0) for u in "ba"]
    for got, want in zip(again, (first[3], first[1], first[2], first[0]), strict=True):
        assert torch.equal(got, want)


def test_other_seeds_utterances_and_epochs_have_other_chances():
    strong = augmentation("strong", seed=3)
    outcomes = [outcome(strong, "a", 0), outcome(strong, "a", 1), outcome(strong, "b", 0), outcome(augmentation("strong", seed=4), "a", 0)]
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(outcomes) for b in outcomes[:i])


def test_switching_one_kind_on_does_not_change_another():
    quiet = Augmentation(seed=1, noise=1.0).samples(torch.from_numpy(chirp(1.0)), "a", 0)
    louder = Augmentation(seed=1, noise=1.0, loudness=1.0, gain_db=(6.0, 6.0)).samples(torch.from_numpy(chirp(1.0)), "a", 0)
    torch.testing.assert_close(louder, gain(quiet, 6.0))


def test_none_changes_nothing():
    samples = torch.from_numpy(chirp(1.0))
    assert augmentation("none").samples(samples, "a", 0) is samples


def test_probabilities_are_kept():
    half = Augmentation(noise=0.5)
    samples = torch.from_numpy(chirp(0.1))
    changed = sum(not torch.equal(half.samples(samples, str(i), 0), samples) for i in range(400))
    assert 160 < changed < 240


def test_a_slow_speed_never_makes_an_utterance_longer_than_thirty_seconds():
    slow = Augmentation(speeds=(0.9,))
    assert slow.samples(torch.zeros(479_000), "a", 0).numel() == 479_000
    assert slow.samples(torch.zeros(16_000), "a", 0).numel() > 17_000


@pytest.mark.parametrize(
    "wrong",
    [{"noise": 1.5}, {"masking": -0.1}, {"speeds": ()}, {"speeds": (0.01,)}, {"snr_db": (10.0,)}, {"rt60_s": (0.1, 0.2, 0.3)}, {"gain_db": (6.0, -12.0)}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="augmentation"):
        Augmentation(**wrong)
    with pytest.raises(BadInput, match="standard"):
        augmentation("nonesuch")
