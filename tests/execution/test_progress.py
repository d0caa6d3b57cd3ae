import io
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.execution import progress as module
from sweep.execution.progress import Progress, Running
from sweep.randomness import FIRST_SAMPLED


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_running_mean_and_standard_deviation(values: list[float]):
    running = Running()
    for value in values:
        running.add(value)
    mean, std = (float(part) for part in str(running).split(" ± "))
    assert mean == pytest.approx(100 * statistics.fmean(values), abs=0.006)
    assert std == pytest.approx(100 * statistics.stdev(values), abs=0.006)


def test_lines_tell_the_truth(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Progress(["a"], done=10, total=110, stream=stream) as progress:
        progress.note("loading")
        assert progress.line() == "10/110 trials (9 %), loading, 0 s elapsed"
        assert progress.rate is None
        clock[0] = 20
        progress.advance([(("a", s), 0.5) for s in range(20)], seconds=10)
        assert progress.line() == "30/110 trials (27 %), 2.0 trials/s, 20 s elapsed, 40 s left"
        clock[0] = 30
        progress.advance([(("a", s), 0.5) for s in range(20)], seconds=10)
        assert progress.line() == "50/110 trials (45 %), 2.0 trials/s, 30 s elapsed, 30 s left"
        clock[0] = 31
        progress.advance([(("a", s), 0.5) for s in range(60)], seconds=11)
        progress.refresh()
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "110/110 trials (100 %)"
    assert lines.count(lines[-1]) == 1


def test_a_terminal_shows_every_cell(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "12")
    stream = Terminal()
    with Progress([f"cell {i}" for i in range(40)], 0, 80, stream) as progress:
        progress.advance([(("cell 0", 0), 0.5), (("cell 0", 1), 0.7)], seconds=1)
    shown = stream.getvalue()
    assert "cell 0" in shown
    assert "60.00 ± 14.14" in shown
    assert "more" in shown


def test_light_trials_count_by_the_time_that_they_take(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    few = FIRST_SAMPLED
    with Progress(["a"], 0, 10, stream, target=1.0, light=0.01) as progress:
        progress.expect(10 + 1000, 1000)
        clock[0] = 10
        progress.advance([(("a", seed), 0.5) for seed in range(5)], seconds=10)
        # 5 of 10 + 1000 · 0.01 = 20 trials' worth, half a trial a second.
        assert progress.line() == "5/1,010 trials (25 % of the work), 0.5 trials/s, 10 s elapsed, 30 s left"
        clock[0] = 15
        progress.advance([(("a", few + k), 0.5 + 0.001 * (-1) ** k) for k in range(500)], seconds=5)
        assert (
            progress.line()
            == "505/1,010 trials (50 % of the work), 1 of 1 means within ±1 points, 33.7 trials/s, 15 s elapsed, "
            "15 s left"
        )
        progress.finish()
    assert stream.getvalue().splitlines()[-1] == "505/505 trials (100 %), 1 of 1 means within ±1 points"


def test_a_plain_stream_says_nothing_twice(monkeypatch: pytest.MonkeyPatch):
    """While nothing changes there is one line a minute, so that a log shows that it lives."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Progress(["a"], 0, 10, stream) as progress:
        for second in range(100):
            clock[0] = float(second)
            progress.work(busy=3, slots=2)
        assert stream.getvalue().splitlines() == [
            "0/10 trials (0 %), starting workers, 2/2 workers busy, 0 s elapsed",
            "0/10 trials (0 %), starting workers, 2/2 workers busy, 1 min elapsed",
        ]
        progress.note("loading")
    assert len(stream.getvalue().splitlines()) == 3
