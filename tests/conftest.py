"""What the tests share: a small network, a small dataset, and a study over them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, however long they take. With HYPOTHESIS_PROFILE=fresh or SWEEP_LONG, other ones each
# time; what fails then says how to have it again. A busy machine may be slow to make examples.
settings.register_profile("repeatable", derandomize=True, print_blob=False, deadline=None)
settings.register_profile(
    "fresh", derandomize=False, print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fresh" if "SWEEP_LONG" in os.environ else "repeatable"))

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["NOISESWEEP_CACHE"] = "off"  # what a test chooses is no other's

ROOT = Path(__file__).parent.parent
REAL = ("chaos", "cluster")  # folders of tests of processes that are started and killed

NUMBERS = {
    *("data", "engine", "execution", "networks", "perturb", "preparation", "search", "study", "training"),
    *("test_data.py", "test_families.py", "test_flow_faults.py", "test_tile_adc.py", "test_variables.py"),
}
"""Of what runs in these folders and modules, numbers are looked at."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With SWEEP_AGAIN, what fails of processes that are started and killed is tried once more, and both are told.

    For machines that other work keeps busy: whether a change lands should not depend on which process had its turn.
    """
    if "SWEEP_AGAIN" in os.environ:
        for item in items:
            if item.path.relative_to(ROOT / "tests").parts[0] in REAL:
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="module", autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """No figures at the end of a run whose numbers alone are looked at: they take half of the time of a small one."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.relative_to(ROOT / "tests").parts[0] in NUMBERS:
            from sweep.reporting.run import Run

            patch.setattr(Run, "_pictures", lambda run: [])
        yield


@pytest.fixture(scope="session", autouse=True)
def signals_as_usual() -> Iterator[None]:
    """What started the tests may ignore signals (nohup, a background job); commands that tests start would, too."""
    ignored = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.keras (28×28×1 → 10, untrained but seeded), data.npz (300 test images) and study.toml."""
    import keras

    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(3)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu", use_bias=False, name="conv1"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="fc"),
        ]
    )
    net.set_weights([rng.normal(0, 0.4, w.shape).astype(np.float32) for w in net.get_weights()])
    net.save(folder / "net.keras")
    images = rng.integers(0, 256, (300, 12, 12), dtype=np.uint8)
    clean = net(images[..., None].astype(np.float32) / 255).numpy().argmax(1)
    labels = np.where(rng.random(300) < 0.9, clean, rng.integers(0, 5, 300))
    np.savez(folder / "data.npz", x_test=images, y_test=labels)
    (folder / "study.toml").write_text(STUDY)
    return folder


STUDY = """
name = "small"
model = "net.keras"
dataset = "data.npz"
seeds = 6

[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0, 0.1, 0.3] } ]
published = [ { scale = 0.1, accuracy = 0.8 } ]

[[family]]
name = "rounded, then noisy"
perturb = [ { op = "fixed_point", bits = [4, 2] }, { op = "uniform", scale = 0.2, layers = "fc" } ]

[[family]]
name = "rounded"
perturb = [ { op = "fixed_point", bits = [8, 1] } ]
"""


@pytest.fixture
def place(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study in a folder of its own, which is the current directory."""
    for name in ("net.keras", "data.npz", "study.toml"):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The trials that this process has evaluated since the list was emptied last."""
    from sweep.execution import worker

    trials: list[tuple[str, int]] = []
    evaluate = worker.evaluate_chunk

    def watched(job, model, dataset, chunk):
        assert {job.cells[cell].dataset for cell, _ in chunk.trials} == {chunk.dataset}
        trials.extend(chunk.trials)
        return evaluate(job, model, dataset, chunk)

    monkeypatch.setattr(worker, "evaluate_chunk", watched)
    return trials
