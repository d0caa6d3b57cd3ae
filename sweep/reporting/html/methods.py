"""How the figures of a page came about, in sentences with citations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.perturb.base import Transform
from sweep.randomness import FIRST_SAMPLED
from sweep.reporting.chips import has_controls, is_whole
from sweep.reporting.summary import FEWEST_TO_CHECK
from sweep.reporting.tables.columns import has_sampled, has_void
from sweep.statistics.sampling import FLOOR
from sweep.study.family import DATASET
from sweep.study.study import Study
from sweep.texts import number

_LARGE = 5  # chips from which on the standard deviation has Bonett's interval


_NEW_IMAGES = (
    "On new images (other chips, and another test set of the same size and source): an interval of at least 95 % for "
    "the mean. Chips and images are taken as random samples, crossed (Brennan 2001, chapter 2). The images leave a "
    "variance that more chips do not average out, since all chips see the same ones. {values} do not "
    "tell it, but bound it: two chips are both right about no more images than the worse one is (Fréchet 1951). The "
    "bound is used as if it were the variance, and added to that of the chips, with Satterthwaite's degrees of freedom"
    " (Satterthwaite 1946), on the logit scale; so the interval is too wide where chips err independently of one "
    "another, and never inside that on this test set. A cell without randomness has Wilson's interval (Wilson 1927)."
)


_OF_SAMPLES = (
    " Where the mean comes from samples, the interval is about this mean, and the variance of the chips is that of "
    "their estimates; the bound takes the pairs of chips that saw all images, and is mean · (1 - mean)/(N - 1) for N "
    "images where there are none."
)

_PLAIN = ", and where it comes from samples the plain one, as above"

_CONTROLS = (
    "Where the law of the last layer's errors is known, each estimate has a control: itself less the same estimate "
    "with, in place of each decision, the probability of a right one over those errors, given what reaches the layer. "
    "Its mean is 0 (control variates: Lavenberg & Welch 1981), and it is subtracted, so that the mean stays the same "
    "and its variance becomes smaller. The probability is an integral over the label's own logit, by the trapezoidal "
    "rule (Trefethen & Weideman 2014); logits that are sums of uniform errors are taken by the Edgeworth series to the "
    "fourth cumulant (Hall 1992)."
)

_STAGES = (
    "How many chips a precision takes was found by triple sampling (Hall 1981): a pilot, half of the chips that its "
    "variance asks for, then all that the variance so far asks for."
)


def _devices(trials: pd.DataFrame) -> Iterator[str]:
    """That trials were evaluated on several kinds of device, where they were."""
    counts = trials["device"].value_counts().sort_index()
    if len(counts) > 1:
        each = " and ".join(f"{int(count):,} trials on {kind}s" for kind, count in counts.items())
        yield (
            f"As was asked for, {each} were evaluated; these sum in another order, so a decision within rounding may be"
            " another there."
        )


def _recalibrated(study: Study) -> Iterator[str]:
    """That chips have statistics of their own, where they have."""
    names: dict[int, list[str]] = {}
    of = f" of {next(iter(study.datasets))}" if len(study.datasets) > 1 and study.calibration is None else ""
    for family in study.family:
        if family.recalibrated:
            names.setdefault(family.recalibrated, []).append(family.name)
    for images, families in names.items():
        yield (
            f"In {', '.join(families)}, batch normalisation has the mean and variance (Ioffe & Szegedy 2015) of each "
            f"perturbed chip: one forward pass over the first {images:,} training images{of} takes them anew, layer "
            "after layer, each from what layers with new statistics hand it (Joshi et al. 2020)."
        )


def paragraphs(
    study: Study, summary: pd.DataFrame, trials: pd.DataFrame | None = None, measure: Measure = ACCURACY
) -> list[str]:
    """What was done, estimated and assumed; plain text that names its references.

    Args:
        study: the study, as run.
        summary: of its trials.
        trials: where some of them may be of chips that saw a few images.
        measure: of which the summary is.
    """
    found = [
        _design(study, summary, measure),
        *_recalibrated(study),
        *(_samples(trials) if has_sampled(summary) and trials is not None else ()),
        *([_CONTROLS] if trials is not None and has_controls(trials) else ()),
        *([_STAGES] if study.precision is not None else ()),
        *(_devices(trials) if trials is not None else ()),
        _estimates(summary, measure),
    ]
    if summary["new_low"].notna().any() or measure.name == ACCURACY.name:
        values = "Counts of right decisions" if measure.name == ACCURACY.name else "Means"
        found.append(_NEW_IMAGES.format(values=values) + (_OF_SAMPLES if has_sampled(summary) else ""))
    last = (
        "All intervals are for this trained network: another training is in none of them. Those of the further tables "
        "are on this test set."
    )
    if len(study.models) > 1:
        last = "All other intervals are for each trained network by itself."
        found.append(
            "The spread over networks is split by crossed random effects: estimates of the analysis of variance "
            "(Searle, Casella & McCulloch 1992), Satterthwaite's degrees of freedom for the mean (Satterthwaite 1946), "
            "and the modified large-sample interval for the standard deviation between trainings (Ting et al. 1990). "
            "These intervals are over trainings and chips, on this test set."
        )
    if has_void(summary):
        found.append(
            f"{summary['nonfinite'].sum():,} trials are void: weights or sums overflowed, and images had scores that "
            "are no finite numbers. The decision on such an image (of several scores the first that is no number, as "
            "`numpy.argmax` takes it) means nothing; these trials are in all figures as they were counted."
        )
    return [*found, last]


def sources(study: Study) -> list[tuple[str, str, str]]:
    """Of every transform of the study, in order of appearance: op, formula, source; plain text."""
    used = {str(table["op"]): family.ops for family in study.family for table in family.perturb}
    return [(op, *_entry(ops[op])) for op, ops in used.items()]


def _entry(transform: type[Transform]) -> tuple[str, str]:
    formula, *rest = inspect.cleandoc(transform.__doc__ or "").split("\n\n")
    source = next((text for text in rest if text.startswith("Source: ")), "")
    return " ".join(formula.split()), " ".join(source.removeprefix("Source: ").split())


def _design(study: Study, summary: pd.DataFrame, measure: Measure) -> str:
    seeds = study.seed_range
    asked = [f"the seeds {seeds.start} to {seeds.start + len(seeds) - 1}"] if len(seeds) else []
    if study.precision is not None:
        points = study.measure_called(study.main).points
        asked.append(f"so many chips that each mean is known to ±{number(study.precision)}{points}")
    random = summary[summary["trials"] > 1]
    sizes = summary["n_images"].dropna().unique().tolist()
    images = f"{sizes[0]:,} images" if len(sizes) == 1 else "the images"
    on = ""
    if len(study.datasets) > 1:
        seen = summary.dropna(subset="n_images").groupby(DATASET, sort=False)["n_images"].first()
        each = ", ".join(f"{name}: {size:,} images" for name, size in seen.items())
        on = f" on one of {len(study.datasets)} test sets ({each}); losses are against the clean network on that set"
    return (
        f"Each cell is a network under one fully fixed perturbation{on}. A chip is a seed: its draws come from Philox "
        f"streams (Salmon et al. 2011) that depend on the root seed ({study.root_seed}), the seed, the position of the "
        f"transform and the variable, so that cells share their draws. The study asks for "
        f"{' and '.join(asked) or 'chips'}; {_counts(random['trials'].tolist(), has_sampled(summary))} "
        f"{_what(measure, images)} Cells without randomness have one trial, which is exact for this test set."
    )


def _what(measure: Measure, images: str) -> str:
    if measure.name == ACCURACY.name:
        return f"Accuracy is the share of {images} of the test set that the network classifies rightly."
    mean = "the mean over" if measure.per_image else "computed from all"
    return f"{measure.label} is {mean} {images} of the test set; {'more' if measure.higher else 'less'} is better."


def _samples(trials: pd.DataFrame) -> Iterator[str]:
    """How means come from chips that saw a few images."""
    few = trials[~is_whole(trials)]
    images, counts = few["n_images"].unique().tolist(), few.groupby("cell", sort=False).size()
    yield (
        f"The means of {len(counts)} cells come from {len(few):,} further chips, {_between(counts.tolist())} a cell, "
        f"with seeds from {FIRST_SAMPLED:,} on: a mean over chips is known better from many chips that see a few "
        f"images each than from a few that see all. Each sees {_between(images)} images in two half-samples, drawn "
        "independently, each systematic (Madow 1949) along an order by the clean network's margins, an image with a "
        f"probability that goes with √(p(1 - p)) + {FLOOR:g}, where p is the share of pilot chips, which are in no "
        "result, that were right about images of such a margin. A chip's estimate is the mean of these p over all "
        "images, and what its sample says that they missed, each image weighted by one over its probability: the "
        "difference estimator (Horvitz & Thompson 1952; Särndal, Swensson & Wretman 1992), in machine learning "
        "active testing (Kossen et al. 2021). It is unbiased whatever p is, and may lie outside 0 to 100 %. The share "
        "of its images that such a chip gets right is biased, since hard ones are chosen more often, and in no figure."
    )
    yield (
        "Chips are independent of one another, so that the mean of their estimates has the plain 95 % interval of "
        "Student's t over chips; it holds the chance of which chips and of which images they saw, for this test set. "
        "Where fewer than two chips of a cell saw all images, the standard deviation between chips comes from the "
        "half-samples: these are independent given the chip, so that their covariance over chips is the variance "
        "between chips, without what the samples add; its interval is on a log scale, with Student's t at the degrees "
        "of freedom that the kurtosis of its terms leaves (Satterthwaite 1946), and with the limits of Feldman & "
        "Cousins (1998) where it is near 0. Where a cell has "
        f"{FEWEST_TO_CHECK} chips or more that saw all images, their mean is compared with that from samples (Welch "
        "1947), with a false alarm in 150,000 cells. Distributions, quantiles and published percentiles are of chips "
        "that saw all images alone."
    )
    yield (
        "What whole chips would have taken for the same interval of half-width h is (t · s/h)² chips, s the standard "
        "deviation between chips, each at the median time of the cell's chips that saw all images, or else of the "
        "run's; where no such time is known, it is counted in images. The time of pilot chips is not in these figures."
    )


def _between(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _counts(counts: Sequence[int], sampled: bool) -> str:
    if not counts:
        return f"no cell here has several chips{' that saw all images' if sampled else ''}."
    seeing = " that saw all images" if sampled else ""
    return f"the {len(counts)} cells with a spread have {_between(counts)} chips{seeing} each."


def _estimates(summary: pd.DataFrame, measure: Measure) -> str:
    random = summary.loc[summary["trials"] > 1, "trials"]
    new = summary["new_low"].notna().any() or measure.name == ACCURACY.name
    scale = "on the logit scale, by the delta method (Casella & Berger 2002, section 5.5.4)"
    two = "There are two intervals for a mean, for two questions. " if new else ""
    text = (
        f"{two}On this test set (other chips, the same images): the mean over chips has a 95 % interval of Student's t "
        f"{scale if measure.fraction else 'on its own scale'}{_PLAIN if has_sampled(summary) else ''}. Another sample "
        "of images is not in it. "
    )
    if (random >= _LARGE).any():
        text += (
            "The standard deviation (ddof = 1) has the interval of Bonett 2006, with Student's t and a lower bound of "
            "the kurtosis where the sample is skewed. "
        )
    if (random < _LARGE).any():
        text += "With fewer than five chips the standard deviation has the chi-square interval of normal theory. "
    if len(random):
        text += "That interval, too, is for other chips on the same images. "
    return text + "Quantiles are of type 7 (Hyndman & Fan 1996)."
