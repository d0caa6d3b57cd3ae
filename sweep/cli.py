"""The command line: each command parses, calls one public function, prints."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sweep import api, arguments, signals, watching
from sweep.errors import InputError, Interrupted, SweepError, printable
from sweep.reporting.tables.layout import FORMATS
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.reporting.run import Run

FEW_CELLS = 60  # of the table that ends a run; `sweep table` prints all
FORWARDED = {
    "seeds",
    "precision",
    "workers",
    "memory",
    "device",
    "label",
    "gpus",
    "chunk",
    "threads",
    "engine",
    "backend",
}
FORWARDED |= {"deadline", "wait_for_nodes", "trust_model", "insecure_cluster"}  # what a submitted driver is given
ENGINES = ("plain", "stacked", "compiled")


def main(given: Sequence[str] | None = None) -> int:
    """Entry point of the `sweep` command; returns the exit status."""
    options = _parser().parse_args(given)
    try:
        command: Callable[[argparse.Namespace], None] = options.command
        command(options)
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
    from sweep.execution.driver import keeping

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
    elif sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(Text("")) as live:
            for seen in watching.watch(options.run, _trust(options)):
                live.update(Text(printable(seen.text)), refresh=True)
    else:
        for line, _ in itertools.groupby(seen.line for seen in watching.watch(options.run, _trust(options))):
            print(printable(line), flush=True)


def _cancel(options: argparse.Namespace) -> None:
    print("\n".join(watching.cancel(options.run)))
    print(f"follow it: sweep status {options.run} --watch")


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
    _plugins_argument(run)
    run.add_argument("--dry-run", action="store_true", help="check everything, print the plan, run nothing")
    run.add_argument(
        "--address", default=os.environ.get("RAY_ADDRESS") or None, help="Ray cluster (default: $RAY_ADDRESS)"
    )
    run.add_argument(
        "--runner", choices=("ray", "inline"), default="ray", metavar="WHO", help="ray, or inline: in this process"
    )
    run.add_argument("--log", choices=("json",), help="say what goes on in a JSON object a line on stderr")
    _work_arguments(run)

    example = "sweep submit mine.toml --address http://10.0.0.5:8265 --out s3://bucket/mine"
    submit = add("submit", _submit, "Let a Ray cluster run a study, and do not wait.", example)
    submit.usage = "sweep submit STUDY --address ADDRESS --out FOLDER [options]"
    _study_arguments(submit)
    submit.add_argument("--address", required=True, help="its job server, http://HOST:8265, or its head, HOST:6379")
    _work_arguments(submit)

    plan = add("plan", _plan, "Check a study and say what it would do.", "sweep plan jobs/article.toml")
    _study_arguments(plan)
    _plugins_argument(plan)

    status = add("status", _status, "Say how far a run is.", "sweep status results/article")
    _run_arguments(status)
    status.add_argument("--watch", action="store_true", help="go on saying it until the run ends")

    cancel = add("cancel", _cancel, "Ask who runs a study to stop.", "sweep cancel results/article")
    cancel.add_argument("run", metavar="RUN", help="run folder")

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
    inspect.add_argument("--seed", type=arguments.natural, default=0, metavar="N", help="of its draws (default: 0)")
    inspect.add_argument("--save", metavar="FILE", help="write the perturbed network (.keras, .h5) instead")
    inspect.add_argument("--out", metavar="FILE", help="CSV with the decision about each image")
    _trust_argument(inspect)

    verify = add("verify", _verify, "Check a run, and evaluate some trials again.", "sweep verify results/article")
    _run_arguments(verify)
    verify.add_argument(
        "--sample", type=arguments.natural, default=10, metavar="N", help="trials to evaluate (default: 10)"
    )
    verify.add_argument("--repair", action="store_true", help="set damaged shards aside; `sweep run` redoes them")
    _trust_argument(verify)

    train = add("train", _train, "Train the networks of a recipe.", "sweep train my_recipe.toml --seed 7")
    train.add_argument("recipe", metavar="RECIPE", help="recipe file (TOML)")
    train.add_argument("--out", metavar="FOLDER", help="where to write (default: beside the recipe)")
    train.add_argument("--from", dest="start", metavar="FILE", help="begin with this .keras or .h5 network")
    train.add_argument("--seed", type=arguments.natural, metavar="N", help="instead of the recipe's")
    train.add_argument(
        "--seeds", type=arguments.positive, metavar="N", help="train N networks, with seeds from that one on"
    )

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
    bench.add_argument("--seconds", type=arguments.seconds, default=5.0, metavar="S", help="for each way (default: 5)")
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
    parser.add_argument("--seeds", type=arguments.seeds, metavar="N|A:B", help="other seeds: a count, or A to B-1")
    words = "half-width of each mean's 95 %% interval"
    parser.add_argument("--precision", type=arguments.points, metavar="POINTS", help=words)
    _trust_argument(parser)


def _work_arguments(parser: _Parser) -> None:
    """How the work is done, on this machine or a cluster."""
    parser.add_argument("--workers", type=arguments.positive, metavar="N", help="tasks at a time (default: every core)")
    parser.add_argument(
        "--memory", type=arguments.size, metavar="SIZE", help="of a worker, such as 4GiB (default: what is there)"
    )
    parser.add_argument("--device", metavar="KIND", help="cpu, gpu, gpu:TYPE, auto, or mixed: both in one run")
    words = "nodes of the cluster that have this label, and no others"
    parser.add_argument("--label", type=arguments.label, action="append", default=[], metavar="KEY=VALUE", help=words)
    parser.add_argument(
        "--gpus", type=arguments.share, default=0.0, metavar="X", help="GPUs a task asks for, such as 0.5"
    )
    parser.add_argument(
        "--chunk", type=arguments.positive, metavar="N", help="trials a task (default: seconds of work)"
    )
    parser.add_argument("--threads", type=arguments.positive, default=1, metavar="N", help="TensorFlow threads a task")
    words = f"{', '.join(ENGINES)} (default: the fastest)"
    parser.add_argument("--engine", choices=ENGINES, metavar="WAY", help=words)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), metavar="NAME", help="Keras's: tensorflow, or jax")
    parser.add_argument("--deadline", type=arguments.seconds, metavar="S", help="seconds for a task (default: 1800)")
    parser.add_argument("--insecure-cluster", action="store_true", help="also a remote Ray that needs no token")
    words = "nodes of the cluster to wait for, up to 15 minutes"
    parser.add_argument("--wait-for-nodes", type=arguments.positive, metavar="N", help=words)
    parser.add_argument("--yes", action="store_true", help="run more than 1,000,000 trials without asking")


def _run_arguments(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    _plugins_argument(parser)


def _plugins_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-plugins", action="store_true", help="run Python code that the run folder brings")


def _trust_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-model", action="store_true", help="load model files unchecked: their code may run")
