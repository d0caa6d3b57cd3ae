"""Made-up spoken words for a keyword spotter: labelled features, drawn anew from a formula. No recording is in them.

A word is three formants, tones that glide through four frequencies within a second, and the loudness of its two
syllables. Each utterance has a speaker of its own (formants higher or lower, tempo, beginning, loudness), and noise.
What comes out has the shape that keyword spotters of microcontrollers take (Banbury et al. 2021, MLPerf Tiny,
arXiv:2106.07597): 49 frames × 10 cepstral coefficients of a second at 8 kHz.
"""

import numpy as np

WORDS = 12
RATE = 8000  # samples a second, and in an utterance
FRAME, STEP = 320, 160  # samples
BANDS, COEFFICIENTS = 24, 10
TRAIN, TEST = 9600, 2400  # utterances
ROUND = 16  # features are multiples of 1/16, so that they are the same on every machine


def train():
    """(9600, 49, 10, 1) float32, (9600,) int64."""
    return utterances(TRAIN, seed=1)


def test():
    """(2400, 49, 10, 1) float32, (2400,) int64: other speakers, and other noise."""
    return utterances(TEST, seed=2)


def utterances(count, seed):
    """Features and words of so many utterances, as many of each word, in random order."""
    rng = np.random.Generator(np.random.Philox(seed))
    labels = rng.permutation(np.arange(count) % WORDS)
    return np.concatenate([features(spoken(some, rng)) for some in np.array_split(labels, count // 100)]), labels


def dictionary():
    """Of each word the formants (words, 3, 4) in Hz, and how loud its syllables are (words, 2)."""
    rng = np.random.Generator(np.random.Philox(0))
    low, high = np.array([250, 900, 2100]), np.array([850, 2000, 3200])
    formants = low[:, None] + (high - low)[:, None] * rng.random((WORDS, 3, 4))
    return formants, 0.4 + 0.6 * rng.random((WORDS, 2))


def spoken(labels, rng):
    """(n, RATE) waves."""
    n = len(labels)
    formants, loud = (part[labels] for part in dictionary())
    formants = formants * rng.normal(1, 0.09, (n, 1, 1)) * rng.normal(1, 0.04, (n, 3, 4))
    begin, length = rng.uniform(0, 0.3, (n, 1)), rng.uniform(0.5, 0.7, (n, 1))
    inside = (np.arange(RATE) / RATE - begin) / length  # 0 to 1 while the word is spoken
    at = np.clip(inside, 0, 1) * 3
    left = np.minimum(at.astype(int), 2)
    wave = np.zeros((n, RATE))
    for k, strength in enumerate((1, 0.7, 0.4)):
        knots = formants[:, k]
        here, there = np.take_along_axis(knots, left, axis=1), np.take_along_axis(knots, left + 1, axis=1)
        phase = 2 * np.pi * np.cumsum(here + (there - here) * (at - left), axis=1) / RATE
        wave += strength * np.sin(phase + rng.uniform(0, 2 * np.pi, (n, 1)))
    syllable = np.sin(2 * np.pi * inside) ** 2 * np.where(inside < 0.5, loud[:, :1], loud[:, 1:])
    wave *= np.where((inside > 0) & (inside < 1), syllable, 0) * rng.uniform(0.3, 1, (n, 1))
    return wave + rng.uniform(0.1, 0.6, (n, 1)) * rng.standard_normal((n, RATE))


def features(waves):
    """(n, 49, 10, 1) mel-frequency cepstral coefficients (Davis & Mermelstein 1980), in float32."""
    frames = np.lib.stride_tricks.sliding_window_view(waves, FRAME, axis=1)[:, ::STEP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    energies = np.log(power @ filters() + 1)
    k, band = np.arange(COEFFICIENTS), np.arange(BANDS)
    cosines = np.cos(np.pi * k * (band[:, None] + 0.5) / BANDS) * np.sqrt(2 / BANDS)
    return (np.rint((energies @ cosines) * ROUND) / ROUND)[..., None].astype(np.float32)


def filters():
    """(frequencies, BANDS): triangles, evenly spaced on the mel scale from 100 Hz to 4 kHz."""
    mel = np.linspace(np.log1p(100 / 700), np.log1p(RATE / 2 / 700), BANDS + 2)
    edges = 700 * np.expm1(mel)
    frequency = np.fft.rfftfreq(FRAME, 1 / RATE)[:, None]
    up = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(up, down), 0, None)
