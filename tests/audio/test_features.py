import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from asrpeft.audio import log_mel
from tests.audio.sounds import chirp, real_speech


def _sounds():
    noise = np.random.default_rng(0).standard_normal
    return {
        "a chirp": chirp(2.3),
        "one sample": np.full(1, 0.5, np.float32),
        "shorter than a window": chirp(0.01),
        "a whole number of hops": chirp(1.0),
        "one sample over a hop": chirp(1.0)[:1601],
        "noise": (0.1 * noise(20_000)).astype(np.float32),
        "digital silence": np.zeros(16_000, np.float32),
        "faint": (1e-6 * noise(16_000)).astype(np.float32),
        "ends loud": np.concatenate([np.zeros(15_900, np.float32), np.ones(100, np.float32)]),
        "almost 30 s": (0.1 * noise(479_900)).astype(np.float32),
        "exactly 30 s": (0.1 * noise(480_000)).astype(np.float32),
        "over 30 s": (0.1 * noise(500_000)).astype(np.float32),
    }


@pytest.fixture(scope="module", params=[80, 128])
def extractor(request):
    return WhisperFeatureExtractor(feature_size=request.param)


@pytest.mark.parametrize("name", _sounds())
def test_thirty_seconds_equal_the_stock_extractor(extractor, name):
    samples = _sounds()[name]
    want = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features[0]
    got = log_mel(torch.from_numpy(samples), n_mels=extractor.feature_size, n_frames=3_000)
    assert got.shape == want.shape and got.dtype == torch.float32
    torch.testing.assert_close(got, want, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", _sounds())
@pytest.mark.parametrize("n_frames", [2, 50, 101, 350, 2_999])
def test_fewer_frames_are_a_prefix_of_the_thirty_seconds_when_the_samples_fit(name, n_frames):
    samples = torch.from_numpy(_sounds()[name])
    if samples.numel() > n_frames * 160:
        pytest.skip("the samples are cut, which changes the loudest frame")
    whole = log_mel(samples, n_frames=3_000)
    torch.testing.assert_close(log_mel(samples, n_frames=n_frames), whole[:, :n_frames], atol=1e-5, rtol=0)


def test_by_default_there_are_as_many_frames_as_the_samples_fill():
    assert log_mel(torch.zeros(1_601)).shape == (80, 11)


def test_real_speech_equals_the_stock_extractor(extractor):
    from asrpeft.corpus import read

    for utterance in read(real_speech("speechocean762/test.parquet"), limit=5):
        samples = utterance.samples()
        want = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features[0]
        got = log_mel(torch.from_numpy(samples), n_mels=extractor.feature_size, n_frames=3_000)
        torch.testing.assert_close(got, want, atol=2e-4, rtol=0)
