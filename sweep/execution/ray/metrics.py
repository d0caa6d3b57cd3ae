"""What Ray's own metrics say of a run, beside what they say of its nodes: for whoever scrapes the cluster already."""

from __future__ import annotations

from sweep.execution.job import Outcome


class Metrics:
    """Counts what tasks report, by host; Ray exports it as `ray_noisesweep_…_total` where the driver runs.

    Nobody sees it where Ray is minimal, or where the driver is no process of the cluster (`ray://`).
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter

        self._trials = Counter("noisesweep_trials", "Trials that were evaluated.", ("host",))
        words = "Seconds of perturbing and evaluating, of all these trials together."
        self._seconds = Counter("noisesweep_trial_seconds", words, ("host",))
        self._failures = Counter("noisesweep_failed_tasks", "Tasks that failed, each time.", ("host",))

    def took(self, outcome: Outcome) -> None:
        """A task has ended."""
        host = {"host": outcome.host.get("host", "")}
        if outcome.error is not None:
            self._failures.inc(1, host)
        elif outcome.trials and outcome.survey is None:
            self._trials.inc(len(outcome.trials), host)
            if outcome.seconds > 0:
                self._seconds.inc(outcome.seconds, host)
