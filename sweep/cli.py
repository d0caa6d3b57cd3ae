"""What each command does: call one public function, print."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sweep import api, budgeted, signals, watching
from sweep.errors import InputError, Interrupted, SweepError, printable
from sweep.parser import parser

if TYPE_CHECKING:
    from sweep.reporting.run import Run
    from sweep.search.allocation import Allocation
    from sweep.search.tolerance import Tolerance

FEW_CELLS = 60  # of the table that ends a run; `sweep table` prints all
FORWARDED = {"seeds", "precision", "workers", "memory", "device", "label", "gpus", "chunk", "threads", "engine"}
FORWARDED |= {
    "backend",
    "deadline",
    "wait_for_nodes",
    "trust_model",
    "insecure_cluster",
}  # what a submitted driver is given


def main(given: Sequence[str] | None = None) -> int:
    """Entry point of the `sweep` command; returns the exit status."""
    options = parser().parse_args(given)
    try:
        _COMMANDS[options.command](options)
        sys.stdout.flush()
        return 0
    except SweepError as error:
        if signals.asked() and not isinstance(error, Interrupted):  # a library made something else of the interrupt
            return signals.stopped()
        if getattr(options, "log", None):
            from sweep.execution.log import event

            event(sys.stderr, "error", text=str(error), exit_status=error.exit_status)
        else:
            print(f"sweep: {printable(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return signals.stopped()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> None:
    if options.dry_run:
        _plan(options)
        return
    finished = api.run(
        options.study,
        options.out,
        seeds=options.seeds,
        precision=options.precision,
        address=options.address,
        workers=options.workers,
        gpus=options.gpus,
        device=options.device,
        labels=dict(options.label),
        runner=options.runner,
        chunk_trials=options.chunk,
        threads=options.threads,
        engine=options.engine,
        backend=options.backend,
        deadline=options.deadline,
        trust_model=options.trust_model,
        trust_plugins=_trust(options),
        insecure_cluster=options.insecure_cluster,
        memory=options.memory,
        wait_for_nodes=options.wait_for_nodes,
        log=options.log,
        confirm=None if options.yes else _confirmed,
    )
    from sweep.execution.resume import keeping

    with keeping(finished.store.folder.uri):
        print(finished.table(most=FEW_CELLS))
        print(f"\nresults in {finished.store.folder.uri}; report: {finished.write_report()}")


def _submit(options: argparse.Namespace) -> None:
    if options.out is None:
        raise InputError("--out: say where results go, a place that the cluster sees, too: s3://BUCKET/NAME")
    named = [name for name in vars(options) if name in FORWARDED and vars(options)[name] not in (None, False)]
    again = {name: vars(options)[name] for name in named}
    job = api.submit(
        options.study,
        options.out,
        options.address,
        seeds=options.seeds,
        precision=options.precision,
        gpus=options.gpus,
        device=options.device,
        labels=dict(options.label),
        trust_model=options.trust_model,
        insecure_cluster=options.insecure_cluster,
        options=list(itertools.chain.from_iterable(_written(name, value) for name, value in again.items())),
        confirm=None if options.yes else _confirmed,
    )
    print(f"job {job}; follow it: sweep status {options.out} --watch; stop it: sweep cancel {options.out}")


def _written(name: str, value: Any) -> list[str]:
    """An option as it is given again to a driver elsewhere."""
    option = f"--{name.replace('_', '-')}"
    if name == "label":
        return [text for key, label in value for text in (option, f"{key}={label}")]
    if value is True:
        return [option]
    return [option, f"{value['start']}:{value['start'] + value['count']}" if isinstance(value, dict) else f"{value}"]


def _confirmed(trials: int) -> bool:
    return _asked(f"{trials:,} trials: run them?")


def _trust(options: argparse.Namespace) -> bool | Callable[[str], bool]:
    return options.trust_plugins or (lambda what: _asked(f"{what}: run it?"))


def _asked(question: str) -> bool:
    """Ask on the terminal; without one, the answer is no."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _opened(options: argparse.Namespace) -> Run:
    from sweep.reporting.run import open_run

    return open_run(options.run, _trust(options))


def _plan(options: argparse.Namespace) -> None:
    how = {"trust_model": options.trust_model, "trust_plugins": _trust(options)}
    how |= {name: getattr(options, name) for name in ("memory", "workers", "address") if hasattr(options, name)}
    print(api.plan(options.study, options.out, seeds=options.seeds, precision=options.precision, **how))


def _status(options: argparse.Namespace) -> None:
    if not options.watch:
        print(api.status(options.run, _trust(options)))
        return
    views, finished = watching.watch(options.run, _trust(options)), False
    if sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(Text("")) as live:
            for seen in views:
                live.update(Text(printable(seen.text)), refresh=True)
                finished = seen.finished
    else:
        for (line, finished), _ in itertools.groupby((seen.line, seen.finished) for seen in views):  # noqa: B007
            print(printable(line), flush=True)
    if not finished:
        raise SweepError(f"{options.run}: whoever ran it has ended, and trials are missing")


def _cancel(options: argparse.Namespace) -> None:
    print("\n".join(watching.cancel(options.run)))
    print(f"follow it: sweep status {options.run} --watch")


def _table(options: argparse.Namespace) -> None:
    opened = _opened(options)
    print((opened.of(options.measure) if options.measure else opened).table(options.format, options.answers))


def _report(options: argparse.Namespace) -> None:
    print(budgeted.report(options.run) or _opened(options).write_report())


def _export(options: argparse.Namespace) -> None:
    names = _opened(options).export(options.folder)
    print(f"{len(names)} files in {options.folder}")


def _inspect(options: argparse.Namespace) -> None:
    trusted = {"trust_model": options.trust_model, "trust_plugins": _trust(options)}
    chip = _opened(options).chip(options.cell, options.seed, **trusted)
    if options.save:
        print(chip.save(options.save))
    if options.out:
        print(chip.save_images(options.out))
    if not options.save:
        print(chip)


def _verify(options: argparse.Namespace) -> None:
    from sweep.execution.verify import verify

    verdict = verify(options.run, options.sample, options.repair, options.trust_model, _trust(options))
    print(printable(str(verdict)))
    if verdict.withheld:
        raise SweepError(f"{options.run}: checked in part; --sample 0 asks for no more")
    if not verdict.sound:
        raise SweepError(
            f"{options.run} is not sound" + ("" if options.repair else "; --repair sets damaged shards aside")
        )


def _train(options: argparse.Namespace) -> None:
    from sweep.training.training import train

    for trained in train(options.recipe, out=options.out, seed=options.seed, seeds=options.seeds, start=options.start):
        print(f"{trained.path}: {trained.quality} of {trained.quality.n_images:,} test images")


def _allocate(options: argparse.Namespace) -> None:
    _said(budgeted.allocate(options.study, options.out, **_how(options)))


def _tolerate(options: argparse.Namespace) -> None:
    _said(budgeted.tolerate(options.study, options.out, precision=options.precision, **_how(options)))


def _how(options: argparse.Namespace) -> dict[str, Any]:
    named = "family", "address", "workers", "runner", "trust_model", "insecure_cluster"
    how = {name: getattr(options, name) for name in named}
    return how | {"trust_plugins": _trust(options), "tell": _tell}


def _said(found: Allocation | Tolerance) -> None:
    print(f"{found}\n\nresults in {found.folder}; report: {found.folder}/report.html")
    if not found.kept:
        raise SweepError(found.verdict())


def _tell(text: str) -> None:
    """How far a search is: on a terminal in one line, which the next one replaces."""
    begin, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{begin}{text}", end=end, file=sys.stderr, flush=True)


def _catalogue(options: argparse.Namespace) -> None:
    print(api.catalogue(options.op, options.plugin), end="")


def _schema(_: argparse.Namespace) -> None:
    print(api.schema(), end="")


def _bench(options: argparse.Namespace) -> None:
    from sweep.networks.backend import import_keras

    import_keras()  # before what would have it speak
    from sweep.bench.bench import bench

    measured = bench(options.model, options.dataset, network=options.network, seconds=options.seconds)
    print(measured.to_json() if options.json else measured, end="" if options.json else "\n")


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "submit": _submit,
    "plan": _plan,
    "status": _status,
    "cancel": _cancel,
    "table": _table,
    "report": _report,
    "export": _export,
    "inspect": _inspect,
    "verify": _verify,
    "train": _train,
    "allocate": _allocate,
    "tolerate": _tolerate,
    "catalogue": _catalogue,
    "schema": _schema,
    "bench": _bench,
}
