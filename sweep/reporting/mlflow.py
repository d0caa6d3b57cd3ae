"""A run as an entry of an experiment tracker, MLflow; it needs the extra `mlflow`."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sweep.errors import InputError
from sweep.reporting.export import Results
from sweep.reporting.labels import Labels, parameter_labels, value_text
from sweep.storage.store import REPORT
from sweep.study.paths import STUDY
from sweep.texts import number

_LONGEST_NAME, _LONGEST_VALUE = 250, 500  # characters that MLflow takes of metrics and parameters
STATISTICS = ("mean", "std", "q05")


def log_to_mlflow(run: Results, experiment: str | None = None) -> str:
    """Log a run to MLflow, where its own settings say (`MLFLOW_TRACKING_URI` and others).

    Parameters are the study's name, networks, dataset, seeds, digest, and the precision where it asks for one. Metrics
    are mean, standard deviation and 5 % quantile of every cell, fractions, named such as `mean/gaussian/scale 0.1`;
    what a cell does not have, such as the quantile of one whose chips saw a few images, is left out. Artifacts are
    tables and figures as `Run.export` writes them, the report and the study.

    Args:
        run: the run.
        experiment: its name; default the study's.

    Returns:
        The id of MLflow's run.

    Raises:
        InputError: MLflow is not installed, or the run holds no trials.
    """
    try:
        import mlflow
    except ImportError:
        raise InputError("MLflow is not installed: pip install 'noisesweep[mlflow]'") from None
    study, seeds = run.study, run.study.seed_range
    precise = {} if study.precision is None else {"precision": number(study.precision)}
    mlflow.set_experiment(experiment or study.name)
    with mlflow.start_run(run_name=study.name) as entry, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(
            {
                "study": study.name,
                "models": ", ".join(study.models)[:_LONGEST_VALUE],
                "dataset": ", ".join(study.datasets.values())[:_LONGEST_VALUE],
                "seeds": f"{seeds.start} to {seeds.start + len(seeds) - 1}" if len(seeds) else "none",
                **precise,
                "root_seed": study.root_seed,
                "study_digest": run.store.manifest["study_digest"],
            }
        )
        mlflow.log_metrics(_metrics(run.summary(), run.parameters, parameter_labels(run.study)))
        run.export(folder)
        (Path(folder) / REPORT).write_text(run.report(), encoding="utf-8")
        (Path(folder) / STUDY).write_text(study.to_toml(), encoding="utf-8")
        mlflow.log_artifacts(folder)
        return str(entry.info.run_id)


def _metrics(summary: pd.DataFrame, parameters: Sequence[str], labels: Labels) -> dict[str, float]:
    found = {}
    several = summary["model"].nunique() > 1
    for cell in summary.to_dict("records"):
        values = [f"{name} {value_text(name, cell[name], labels)}" for name in parameters if not pd.isna(cell[name])]
        place = "/".join([*([cell["model"]] if several else []), cell["family"], *values])
        for statistic in STATISTICS:
            if not pd.isna(cell[statistic]):
                found[metric_name(f"{statistic}/{place}")] = float(cell[statistic])
    return found


def metric_name(text: str) -> str:
    """A metric's name as MLflow takes it, which keeps each in a file of that name: no part leads upwards."""
    parts = [re.sub(r"[^\w\-. :]", "_", part) for part in text.split("/")]
    name = "/".join("_" * max(1, len(part)) if set(part) <= {"."} else part for part in parts)
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 17]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
