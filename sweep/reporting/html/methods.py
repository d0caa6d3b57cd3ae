"""How the figures of a page came about, in sentences with citations."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pandas as pd

from sweep.perturb.base import Transform
from sweep.reporting.tables.columns import has_void
from sweep.study.study import Study

_LARGE = 5  # chips from which on the standard deviation has Bonett's interval


_NEW_IMAGES = (
    "On new images (other chips, and another test set of the same size and source): an interval of at least 95 % for "
    "the mean. Chips and images are taken as random samples, crossed (Brennan 2001, chapter 2). The images leave a "
    "variance that more chips do not average out, since all chips see the same ones. Counts of right decisions do not "
    "tell it, but bound it: two chips are both right about no more images than the worse one is (Fréchet 1951). The "
    "bound is used as if it were the variance, and added to that of the chips, with Satterthwaite's degrees of freedom"
    " (Satterthwaite 1946), on the logit scale; so the interval is too wide where chips err independently of one "
    "another, and never inside that on this test set. A cell without randomness has Wilson's interval (Wilson 1927)."
)


def paragraphs(study: Study, summary: pd.DataFrame) -> list[str]:
    """What was done, estimated and assumed; plain text that names its references."""
    found = [_design(study, summary), _estimates(summary), _NEW_IMAGES]
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


def _design(study: Study, summary: pd.DataFrame) -> str:
    seeds = study.seed_range
    random = summary[summary["trials"] > 1]
    sizes = summary["n_images"].dropna().unique().tolist()
    images = f"{sizes[0]:,} images" if len(sizes) == 1 else "the images"
    return (
        f"Each cell is a network under one fully fixed perturbation. A chip is a seed: its draws come from Philox "
        f"streams (Salmon et al. 2011) that depend on the root seed ({study.root_seed}), the seed, the position of the "
        f"transform and the variable, so that cells share their draws. The study asks for the seeds {seeds.start} to "
        f"{seeds.start + len(seeds) - 1}; {_counts(random['trials'].tolist())} Accuracy is the share of {images} of "
        f"the test set that the network classifies rightly. Cells without randomness have one trial, which is exact "
        f"for this test set."
    )


def _counts(counts: Sequence[int]) -> str:
    if not counts:
        return "no cell here has several chips."
    low, high = min(counts), max(counts)
    many = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"the {len(counts)} cells with a spread have {many} chips each."


def _estimates(summary: pd.DataFrame) -> str:
    random = summary.loc[summary["trials"] > 1, "trials"]
    text = (
        "There are two intervals for a mean, for two questions. On this test set (other chips, the same images): the "
        "mean over chips has a 95 % interval of Student's t on the logit scale, by the delta method (Casella & Berger "
        "2002, section 5.5.4). Another sample of images is not in it. "
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
