"""A run that no network has made: every kind of picture, and names that mean harm."""

from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.summary import summarise
from sweep.reporting.tables.frames import Answer
from sweep.study.study import Study

HOSTILE = '<img src=x onerror=\'window.hacked = 1\'> & "quoted" $x$ id="a" --> <script>window.hacked = 2'
"""A family's name, which has no slash."""

CLOSING = f"</script></pre></svg><script>window.hacked = 3</script>{HOSTILE}"
"""What a host or a table may hold."""

NET = "net</td>.h5"

STUDY = Study.from_dict(
    {
        "name": "hostile",
        "model": NET,
        "dataset": "data.npz",
        "seeds": 25,
        "family": [
            {
                "name": "gaussian",
                "perturb": [{"op": "gaussian", "scale": [0, 0.04, 0.1]}],
                "published": [{"scale": 0.1, "accuracy": 0.7}],
            },
            {"name": HOSTILE, "perturb": [{"op": "uniform", "scale": [0.04, 0.1]}]},
            {"name": "rounded", "perturb": [{"op": "fixed_point", "bits": [8, 4, 1]}]},
            {"name": "drift", "perturb": [{"op": "pcm", "time": [25, 3600, 31536000]}]},
            {
                "name": "layers",
                "sensitivity": ["conv1", "<fc>"],
                "perturb": [{"op": "gaussian", "basis": "layer_std", "scale": [0.1, 0.2]}],
            },
            {
                "name": "both",
                "perturb": [{"op": "fixed_point", "bits": [4, 2]}, {"op": "activation_fixed_point", "bits": [4, 2]}],
            },
        ],
    }
)


class SyntheticRun:
    """What `sweep.reporting.run.Run` would give, out of a seeded generator."""

    study = STUDY
    parameters = tuple(STUDY.columns)
    store: Any = SimpleNamespace(
        manifest={
            "started": "2026-01-02T03:04:05+00:00",
            "finished": None,
            "wall_seconds": 432.0,
            "versions": {"noisesweep": "0.1.0", "python": "3.12"},
            "study_digest": "ab" * 32,
            "identity": {"files": {"dataset": "cd" * 32, "model net": "ef" * 32}},
            "hosts": [{"host": f"host {CLOSING}", "device": "CPU", "tensorflow": "2.20"}],
            "shards": [{}, {}],
        }
    )

    @cached_property
    def _trials(self) -> pd.DataFrame:
        rng = np.random.default_rng(11)
        rows = []
        for i, cell in enumerate(self.study.cells):
            for seed in range(25 if cell.random else 1):
                accuracy = np.clip(round(0.97 - 0.02 * (i % 7) + 0.02 * rng.normal() * cell.random, 3), 0, 1)
                swept = {name: cell.values.get(name) for name in self.parameters}
                where = {"seconds": 0.05, "host": f"host {CLOSING}", "device": "CPU", "engine": "plain"}
                common = {"model": cell.model, "family": cell.family, "cell": cell.id, "seed": seed, "n_images": 1000}
                rows.append({**common, **swept, "accuracy": float(accuracy), **where})
        kinds = {float: "float64", int: "Int64", str: "object"}
        return pd.DataFrame(rows).astype({name: kinds[kind] for name, kind in self.study.columns.items()})

    @property
    def measure(self) -> Measure:
        return ACCURACY

    @property
    def others(self) -> list[Any]:
        return []

    def trials(self) -> pd.DataFrame:
        return self._trials

    def summary(self) -> pd.DataFrame:
        fixed = [cell.id for cell in self.study.cells if not cell.random]
        return summarise(self._trials, self.parameters, fixed, self.study.published or None)

    def components(self) -> pd.DataFrame | None:
        return None


EXTRAS = [
    Answer(
        "equivalence",
        f"Equivalence {CLOSING}",
        pd.DataFrame({"bits": [8, 4, 1], "level": [0.01, np.nan, 0.16], "<b>": [CLOSING, "y", None], "ok": True}),
        f"A bootstrap (Hesterberg 2015). {CLOSING}",
    )
]
