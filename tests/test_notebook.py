"""results/analysis.ipynb runs, from its first cell to its last, on a run of the article's study."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import sweep
from sweep.search import goal, tolerate

BUDGET = """
name = "budget"
model = "net.keras"
dataset = "data.npz"
seeds = 3
budget = { drop = 10 }

[[family]]
name = "bits"
perturb = [ { op = "fixed_point", bits = [6, 4, 3] }, { op = "gaussian", scale = 0.01 } ]

[[family]]
name = "noise"
perturb = [ { op = "gaussian", scale = [0, 0.3] } ]
"""
SMALLER = {"models/mnist_tf2_fw.h5": "net.keras", "models/data/mnist.npz": "data.npz", "seeds = 200": "seeds = 12"}


def read(root: Path) -> nbformat.NotebookNode:
    return nbformat.read(root / "results" / "analysis.ipynb", as_version=4)


@pytest.mark.slow
def test_it_runs_on_a_run_of_the_articles_study(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / "jobs" / "article.toml").read_text()
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    (place / "article.toml").write_text(text)
    sweep.run("article.toml", "article", runner="inline")
    monkeypatch.setattr(goal, "CHIPS", 150)
    monkeypatch.setattr(tolerate, "CHIPS", 150)
    (place / "budget.toml").write_text(BUDGET)
    sweep.allocate("budget.toml", "allocation-allocation", family="bits")
    sweep.tolerate("budget.toml", "tolerance-tolerance", family="noise", precision=50)
    monkeypatch.delenv("RUN", raising=False)
    notebook = read(root)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(place)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 2
    shown = [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    assert [text for text in shown if "all layers" in text]
    assert [text for text in shown if "alone_low" in text]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_the_outputs_that_are_kept_tell_nothing_of_the_machine(root: Path) -> None:
    notebook = read(root)
    texts = re.sub(r'"image/png": "[^"]*"', "", nbformat.writes(notebook))
    assert not re.search(r"(?<![\w:/])/(home|work|tmp|Users|root)\b", texts)
    assert not any(cell.get("metadata") for cell in notebook.cells), "no times of execution"
