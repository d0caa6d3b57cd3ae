"""The command line: each command parses, calls one public function, prints."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sweep import api, signals
from sweep.errors import Interrupted, SweepError, printable
from sweep.reporting.tables.layout import FORMATS
from sweep.texts import bytes_of
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.reporting.run import Run
    from sweep.search.allocation import Allocation
    from sweep.search.tolerance import Tolerance

ENGINES = ("plain", "stacked", "compiled")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `sweep` command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], None] = options.command
        command(options)
        sys.stdout.flush()
        return 0
    except SweepError as error:
        if signals.asked() and not isinstance(error, Interrupted):  # a library made something else of the interrupt
            return signals.stopped()
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
        deadline=options.deadline,
        trust_model=options.trust_model,
        trust_plugins=_trust(options),
        insecure_cluster=options.insecure_cluster,
        memory=options.memory,
        wait_for_nodes=options.wait_for_nodes,
        confirm=None if options.yes else _confirmed,
    )
    from sweep.execution.driver import keeping

    with keeping(finished.store.folder.uri):
        print(finished.table())
        print(f"\nresults in {finished.store.folder.uri}; report: {finished.write_report()}")


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
    print(api.status(options.run, _trust(options)))


def _table(options: argparse.Namespace) -> None:
    opened = _opened(options)
    print((opened.of(options.measure) if options.measure else opened).table(options.format, options.answers))


def _report(options: argparse.Namespace) -> None:
    print(_opened(options).write_report())


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
    _said(api.allocate(options.study, options.out, **_how(options)))


def _tolerate(options: argparse.Namespace) -> None:
    _said(api.tolerate(options.study, options.out, precision=options.precision, **_how(options)))


def _how(options: argparse.Namespace) -> dict[str, Any]:
    how = {"family": options.family, "trust_model": options.trust_model, "trust_plugins": _trust(options)}
    return how | {"tell": _tell}


def _said(found: Allocation | Tolerance) -> None:
    print(f"{found}\n\nresults in {found.folder}")
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
    from sweep.bench.bench import bench

    measured = bench(options.model, options.dataset, network=options.network, seconds=options.seconds)
    print(measured.to_json() if options.json else measured, end="" if options.json else "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweep",
        description="How much accuracy a trained Keras network keeps when its weights are imprecise.",
        epilog="example: sweep run jobs/smoke.toml",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"noisesweep {VERSION}", help="say the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, body: Callable[[argparse.Namespace], None], text: str, example: str) -> _Parser:
        epilog = f"example: {example}"
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        sub.set_defaults(command=body)
        return sub

    run = add("run", _run, "Run what is missing of a study, a TOML file.", "sweep run jobs/article.toml --seeds 1000")
    run.usage = "sweep run STUDY [options]"  # the help fits a screen
    _study_arguments(run, said=False)
    run.add_argument("--dry-run", action="store_true", help="check everything, print the plan, run nothing")
    run.add_argument(
        "--address", default=os.environ.get("RAY_ADDRESS") or None, help="Ray cluster (default: $RAY_ADDRESS)"
    )
    run.add_argument("--workers", type=_positive, metavar="N", help="tasks at a time (default: every core)")
    run.add_argument("--memory", type=_size, metavar="SIZE", help="of a worker, such as 4GiB (default: what is there)")
    run.add_argument("--device", metavar="KIND", help="cpu, gpu, gpu:TYPE, auto, or mixed: both in one run")
    words = "nodes of the cluster that have this label, and no others"
    run.add_argument("--label", type=_label, action="append", default=[], metavar="KEY=VALUE", help=words)
    run.add_argument("--gpus", type=_share, default=0.0, metavar="X", help="GPUs a task asks for, such as 0.5")
    run.add_argument(
        "--runner", choices=("ray", "inline"), default="ray", metavar="WHO", help="ray, or inline: in this process"
    )
    run.add_argument("--chunk", type=_positive, metavar="N", help="trials a task (default: seconds of work)")
    run.add_argument("--threads", type=_positive, default=1, metavar="N", help="TensorFlow threads a task")
    words = f"{', '.join(ENGINES)} (default: the fastest)"
    run.add_argument("--engine", choices=ENGINES, metavar="WAY", help=words)
    run.add_argument("--deadline", type=_seconds, metavar="S", help="seconds for a task (default: 1800)")
    run.add_argument("--insecure-cluster", action="store_true", help="also a remote Ray that needs no token")
    words = "nodes of the cluster to wait for, up to 15 minutes"
    run.add_argument("--wait-for-nodes", type=_positive, metavar="N", help=words)
    run.add_argument("--yes", action="store_true", help="run more than 1,000,000 trials without asking")

    plan = add("plan", _plan, "Check a study and say what it would do.", "sweep plan jobs/article.toml")
    _study_arguments(plan)

    status = add("status", _status, "Say how far a run is.", "sweep status results/article")
    _run_arguments(status)

    table = add("table", _table, "Print a run's table.", "sweep table results/article --format latex")
    _run_arguments(table)
    table.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    table.add_argument("--measure", metavar="NAME", help="another of the study's measures (default: the first)")
    table.add_argument("--answers", action="store_true", help="thresholds, equivalent bits and published values too")

    report = add("report", _report, "Write a run's report, one HTML page.", "sweep report results/article")
    _run_arguments(report)

    export = add("export", _export, "Write tables and figures for papers.", "sweep export results/article paper")
    _run_arguments(export)
    export.add_argument("folder", metavar="FOLDER", help="gets CSV, JSON, Parquet, Markdown, LaTeX, SVG and PNG files")

    inspect = add("inspect", _inspect, "Look at one chip closely.", "sweep inspect RUN --cell CELL --seed 3")
    _run_arguments(inspect)
    inspect.add_argument("--cell", required=True, metavar="CELL", help="its id, as in the column cell of trials")
    inspect.add_argument("--seed", type=_natural, default=0, metavar="N", help="of its draws (default: 0)")
    inspect.add_argument("--save", metavar="FILE", help="write the perturbed network (.keras, .h5) instead")
    inspect.add_argument("--out", metavar="FILE", help="CSV with the decision about each image")
    _trust_argument(inspect)

    verify = add("verify", _verify, "Check a run, and evaluate some trials again.", "sweep verify results/article")
    _run_arguments(verify)
    verify.add_argument("--sample", type=_natural, default=10, metavar="N", help="trials to evaluate (default: 10)")
    verify.add_argument("--repair", action="store_true", help="set damaged shards aside; `sweep run` redoes them")
    _trust_argument(verify)

    train = add("train", _train, "Train the networks of a recipe.", "sweep train my_recipe.toml --seed 7")
    train.add_argument("recipe", metavar="RECIPE", help="recipe file (TOML)")
    train.add_argument("--out", metavar="FOLDER", help="where to write (default: beside the recipe)")
    train.add_argument("--from", dest="start", metavar="FILE", help="begin with this .keras or .h5 network")
    train.add_argument("--seed", type=_natural, metavar="N", help="instead of the recipe's")
    train.add_argument("--seeds", type=_positive, metavar="N", help="train N networks, with seeds from that one on")

    words = "Find what each layer needs to keep the study's budget."
    allocate = add("allocate", _allocate, words, "sweep allocate jobs/allocation.toml")
    _search_arguments(allocate)
    words = "Find how far one parameter may go within the study's budget."
    tolerate = add("tolerate", _tolerate, words, "sweep tolerate jobs/tolerance.toml")
    _search_arguments(tolerate)
    words = "half-width of a level's interval, in %% of it (default: 2)"
    tolerate.add_argument("--precision", type=_points, default=2.0, metavar="PERCENT", help=words)

    catalogue = add("catalogue", _catalogue, "Say what every transform does.", "sweep catalogue pcm")
    catalogue.add_argument("op", metavar="OP", nargs="?", help="one transform (default: the whole page)")
    catalogue.add_argument(
        "--plugin", metavar="FILE", action="append", default=[], help="a file of yours, which is run"
    )
    add("schema", _schema, "Print the JSON Schema of study files.", "sweep schema > docs/study.schema.json")

    bench = add("bench", _bench, "Measure how fast trials run here.", "sweep bench my_model.h5 my_data.npz")
    bench.add_argument("model", metavar="MODEL", nargs="?", help="model file (.keras, .h5)")
    bench.add_argument("dataset", metavar="DATASET", nargs="?", help="dataset (.npz)")
    bench.add_argument("--json", action="store_true", help="print all figures as JSON")
    bench.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help="for each way (default: 5)")
    bench.add_argument(
        "--network",
        choices=("cnn", "resnet", "both"),
        default="both",
        help="cnn: MODEL on DATASET; resnet: a ResNet-20 with random weights, which needs neither (default: both)",
    )
    return parser


_Parser = argparse.ArgumentParser


def _study_arguments(parser: _Parser, said: bool = True) -> None:
    words = "study file (TOML)" if said else argparse.SUPPRESS
    parser.add_argument("study", metavar="STUDY", help=words)
    parser.add_argument("--out", metavar="FOLDER", help="run folder or URI (default: results/NAME)")
    parser.add_argument("--seeds", type=_seeds, metavar="N|A:B", help="other seeds: a count, or A to B-1")
    words = "half-width of each mean's 95 %% interval"
    parser.add_argument("--precision", type=_points, metavar="POINTS", help=words)
    _trust_argument(parser)
    _plugins_argument(parser)


def _search_arguments(parser: _Parser) -> None:
    parser.add_argument("study", metavar="STUDY", help="study file (TOML) with a [budget]")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the search (default: results/NAME-…)")
    parser.add_argument("--family", metavar="NAME", help="which one (default: the only one)")
    _trust_argument(parser)
    _plugins_argument(parser)


def _run_arguments(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    _plugins_argument(parser)


def _plugins_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-plugins", action="store_true", help="run Python code that the run folder brings")


def _trust_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-model", action="store_true", help="load model files unchecked: their code may run")


def _positive(text: str) -> int:
    return _natural(text, least=1)


def _natural(text: str, least: int = 0) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _size(text: str) -> int:
    try:
        return bytes_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 4GiB or 800MiB") from None


def _share(text: str) -> float:
    value = _number(text)
    if not (0 <= value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction of a GPU, or a whole number of them")
    return value


def _label(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _points(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points above 0 and up to 50, such as 0.1")
    return value


def _seeds(text: str) -> int | dict[str, int]:
    start, colon, end = text.partition(":")
    if not colon:
        return _positive(text)
    first, last = _natural(start), _natural(end)
    if last <= first:
        raise argparse.ArgumentTypeError(f"{text!r} is empty; A:B means the seeds A to B-1")
    return {"start": first, "count": last - first}
