"""The command line: its commands and their options."""

from __future__ import annotations

import argparse
import os

from sweep import arguments
from sweep.reporting.tables.layout import FORMATS
from sweep.version import VERSION

ENGINES = ("plain", "stacked", "compiled")


def parser() -> argparse.ArgumentParser:
    """Of the command line; what it parses names its `command`."""
    whole = argparse.ArgumentParser(
        prog="sweep",
        description="How much accuracy a trained Keras network keeps when its weights are imprecise.",
        epilog="example: sweep run jobs/smoke.toml",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"noisesweep {VERSION}", help="say the version and exit")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str) -> _Parser:
        epilog = f"example: {example}"
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        sub.set_defaults(command=name)
        return sub

    run = add("run", "Run what is missing of a study, a TOML file.", "sweep run jobs/article.toml --seeds 1000")
    run.usage = "sweep run STUDY [options]"  # the help fits a screen
    _study_arguments(run, said=False)
    _plugins_argument(run)
    run.add_argument("--dry-run", action="store_true", help="check everything, print the plan, run nothing")
    _address_argument(run)
    run.add_argument(
        "--runner", choices=("ray", "inline"), default="ray", metavar="WHO", help="ray, or inline: in this process"
    )
    run.add_argument("--log", choices=("json",), help="say what goes on in a JSON object a line on stderr")
    _work_arguments(run)

    example = "sweep submit mine.toml --address http://10.0.0.5:8265 --out s3://bucket/mine"
    submit = add("submit", "Let a Ray cluster run a study, and do not wait.", example)
    submit.usage = "sweep submit STUDY --address ADDRESS --out FOLDER [options]"
    _study_arguments(submit)
    submit.add_argument("--address", required=True, help="its job server, http://HOST:8265, or its head, HOST:6379")
    _work_arguments(submit)

    plan = add("plan", "Check a study and say what it would do.", "sweep plan jobs/article.toml")
    _study_arguments(plan)
    _plugins_argument(plan)

    status = add("status", "Say how far a run is.", "sweep status results/article")
    _run_arguments(status)
    status.add_argument("--watch", action="store_true", help="go on saying it until the run ends")

    cancel = add("cancel", "Ask who runs a study to stop.", "sweep cancel results/article")
    cancel.add_argument("run", metavar="RUN", help="run folder")

    table = add("table", "Print a run's table.", "sweep table results/article --format latex")
    _run_arguments(table)
    table.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    table.add_argument("--measure", metavar="NAME", help="another of the study's measures (default: the first)")
    table.add_argument("--answers", action="store_true", help="thresholds, equivalent bits and published values too")

    report = add("report", "Write a run's report, one HTML page.", "sweep report results/article")
    _run_arguments(report)

    export = add("export", "Write tables and figures for papers.", "sweep export results/article paper")
    _run_arguments(export)
    export.add_argument("folder", metavar="FOLDER", help="gets CSV, JSON, Parquet, Markdown, LaTeX, SVG and PNG files")

    inspect = add("inspect", "Look at one chip closely.", "sweep inspect RUN --cell CELL --seed 3")
    _run_arguments(inspect)
    inspect.add_argument("--cell", required=True, metavar="CELL", help="its id, as in the column cell of trials")
    inspect.add_argument("--seed", type=arguments.natural, default=0, metavar="N", help="of its draws (default: 0)")
    inspect.add_argument("--save", metavar="FILE", help="write the perturbed network (.keras, .h5) instead")
    inspect.add_argument("--out", metavar="FILE", help="CSV with the decision about each image")
    _trust_argument(inspect)

    verify = add("verify", "Check a run, and evaluate some trials again.", "sweep verify results/article")
    _run_arguments(verify)
    verify.add_argument(
        "--sample", type=arguments.natural, default=10, metavar="N", help="trials to evaluate (default: 10)"
    )
    verify.add_argument("--repair", action="store_true", help="set damaged shards aside; `sweep run` redoes them")
    _trust_argument(verify)

    train = add("train", "Train the networks of a recipe.", "sweep train my_recipe.toml --seed 7")
    train.add_argument("recipe", metavar="RECIPE", help="recipe file (TOML)")
    train.add_argument("--out", metavar="FOLDER", help="where to write (default: beside the recipe)")
    train.add_argument("--from", dest="start", metavar="FILE", help="begin with this .keras or .h5 network")
    train.add_argument("--seed", type=arguments.natural, metavar="N", help="instead of the recipe's")
    train.add_argument(
        "--seeds", type=arguments.positive, metavar="N", help="train N networks, with seeds from that one on"
    )

    words = "Find what each layer needs to keep the study's budget."
    allocate = add("allocate", words, "sweep allocate jobs/allocation.toml")
    _search_arguments(allocate)
    words = "Find how far one parameter may go within the study's budget."
    tolerate = add("tolerate", words, "sweep tolerate jobs/tolerance.toml")
    _search_arguments(tolerate)
    words = "half-width of a level's interval, in %% of it (default: 2)"
    tolerate.add_argument("--precision", type=arguments.points, default=2.0, metavar="PERCENT", help=words)

    catalogue = add("catalogue", "Say what every transform does.", "sweep catalogue pcm")
    catalogue.add_argument("op", metavar="OP", nargs="?", help="one transform (default: the whole page)")
    catalogue.add_argument(
        "--plugin", metavar="FILE", action="append", default=[], help="a file of yours, which is run"
    )
    add("schema", "Print the JSON Schema of study files.", "sweep schema > docs/study.schema.json")

    bench = add("bench", "Measure how fast trials run here.", "sweep bench my_model.h5 my_data.npz")
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
    return whole


_Parser = argparse.ArgumentParser


def _study_arguments(parser: _Parser, said: bool = True) -> None:
    words = "study file (TOML)" if said else argparse.SUPPRESS
    parser.add_argument("study", metavar="STUDY", help=words)
    parser.add_argument("--out", metavar="FOLDER", help="run folder or URI (default: results/NAME)")
    parser.add_argument("--seeds", type=arguments.seeds, metavar="N|A:B", help="other seeds: a count, or A to B-1")
    words = "half-width of each mean's 95 %% interval"
    parser.add_argument("--precision", type=arguments.half_width, metavar="WIDTH", help=words)
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


def _search_arguments(parser: _Parser) -> None:
    parser.add_argument("study", metavar="STUDY", help="study file (TOML) with a [budget]")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the search (default: results/NAME-…)")
    parser.add_argument("--family", metavar="NAME", help="which one (default: the only one)")
    _address_argument(parser)
    parser.add_argument("--workers", type=arguments.positive, metavar="N", help="tasks at a time (default: every core)")
    words = "ray, where it pays to start it; or inline: stay in this process"
    parser.add_argument("--runner", choices=("ray", "inline"), default="ray", metavar="WHO", help=words)
    parser.add_argument("--insecure-cluster", action="store_true", help="also a remote Ray that needs no token")
    _trust_argument(parser)
    _plugins_argument(parser)


def _address_argument(parser: _Parser) -> None:
    there = os.environ.get("RAY_ADDRESS") or None
    parser.add_argument("--address", default=there, help="Ray cluster (default: $RAY_ADDRESS)")


def _run_arguments(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    _plugins_argument(parser)


def _plugins_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-plugins", action="store_true", help="run Python code that the run folder brings")


def _trust_argument(parser: _Parser) -> None:
    parser.add_argument("--trust-model", action="store_true", help="load model files unchecked: their code may run")
