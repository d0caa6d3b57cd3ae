"""CPUs and GPUs in one run: what is asked for, chosen, refused, recorded. No GPU is needed: TensorFlow says it has one.

What a GPU computes is not tested here; a process that "has" one evaluates on its CPU as it would there.
"""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import sweep
from sweep.cli import main
from sweep.engine import machine, tensors, tf_ops
from sweep.errors import InputError, NodeError
from sweep.execution import hosts as machine_of_rows
from sweep.execution import verify as checks
from sweep.execution import worker
from sweep.execution.devices import Wish, of_several_widths
from sweep.execution.ray.cluster import RayRunner
from sweep.execution.ray.joining import Members, Share
from sweep.storage.schema import PROVENANCE

GIB = 1024**3


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Networks and evaluators of a process are those of one kind of device."""
    worker._networks.clear()
    worker._evaluators.clear()
    yield
    worker._networks.clear()
    worker._evaluators.clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow says that it has a GPU."""
    monkeypatch.setattr(tensors, "sees_gpu", lambda: True)
    monkeypatch.setattr(tensors, "device", lambda: "GPU")


def results(run: str) -> pd.DataFrame:
    return sweep.open_run(run).trials().drop(columns=list(PROVENANCE))


def devices(run: str) -> list[str]:
    return json.loads(Path(run, "manifest.json").read_text())["devices"]


@pytest.mark.parametrize(
    ("device", "gpus", "inline", "wish"),
    [
        (None, 0.0, False, Wish("cpu")),
        (None, 0.0, True, Wish("auto")),
        (None, 0.25, False, Wish("gpu", 0.25)),
        ("gpu", 0.0, False, Wish("gpu", 1.0)),
        ("auto", 0.5, False, Wish("auto", 0.5)),
        ("gpu:A100", 2.0, False, Wish("gpu", 2.0, "A100")),
    ],
)
def test_what_options_ask_for(device: str | None, gpus: float, inline: bool, wish: Wish):
    assert Wish.of(device, gpus, inline=inline) == wish


@pytest.mark.parametrize(
    ("device", "gpus", "labels", "line"),
    [
        ("tpu", 0.0, {}, "--device tpu: is none; valid: auto, cpu, gpu, mixed, or gpu:TYPE such as gpu:A100"),
        ("cpu:A100", 0.0, {}, "--device cpu:A100: is none; valid: "),
        ("gpu:", 0.0, {}, "--device gpu:: is none; valid: "),
        ("cpu", 0.5, {}, r"--device cpu: contradicts --gpus 0\.5; leave one of them out"),
        ("cpu", 0.0, {"market": ""}, "--label market=: is none of a Ray node; valid: KEY=VALUE, "),
        ("cpu", 0.0, {"a b": "c"}, "--label a b=c: is none of a Ray node"),
    ],
)
def test_what_is_no_device_or_label(device: str, gpus: float, labels: dict[str, str], line: str):
    with pytest.raises(InputError, match=f"^{line}"):
        Wish.of(device, gpus, labels)


def test_a_process_is_no_cluster():
    with pytest.raises(InputError, match=r"^--runner inline: is this process; --device gpu:TYPE and --label choose"):
        sweep.run("none.toml", runner="inline", labels={"a": "b"})


@pytest.mark.parametrize(
    ("kind", "there", "has_gpus", "device"),
    [
        ("cpu", ["GPU"], True, "CPU"),
        ("gpu", ["CPU"], False, "GPU"),
        ("auto", [], True, "GPU"),
        ("auto", [], False, "CPU"),
        ("auto", ["CPU"], True, "CPU"),  # as it was begun
        ("auto", ["GPU"], True, "GPU"),
        ("auto", ["CPU", "GPU"], True, "GPU"),
        ("mixed", ["CPU"], True, "GPU"),
        ("mixed", ["GPU"], False, "CPU"),
    ],
)
def test_what_auto_and_mixed_come_to(kind: str, there: list[str], has_gpus: bool, device: str):
    assert Wish(kind).settled(there, has_gpus) == device


@pytest.mark.parametrize(
    ("value", "fitting"),
    [("spot", {"spot"}), ("!spot", {"demand", None}), ("in(spot, x)", {"spot"}), ("!in(spot,demand)", {None})],
)
def test_labels_are_rays(value: str, fitting: set[str | None]):
    """As Ray selects: a node without the label has none of the values."""
    wish = Wish.of("cpu", 0.0, {"ray.io/market-type": value})
    nodes = {name: {} if name is None else {"ray.io/market-type": name} for name in ("spot", "demand", None)}
    assert {name for name, labels in nodes.items() if wish.fits(labels)} == fitting


def test_labels_that_we_take_are_valid_for_ray():
    from ray._private.label_utils import validate_label_selector

    labels = {"ray.io/market-type": "in(spot, on-demand)", "zone": "!eu-1", "a.b/c": "!in(x,y)"}
    Wish.of("cpu", 0.0, labels)
    assert validate_label_selector(labels) is None


CPU_NODE, GPU_NODE, HEAD = {"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0, "accelerator_type:A100": 1.0}, {"memory": 1.0}


@pytest.mark.parametrize(
    ("wish", "nodes", "there", "device", "slots"),
    [
        (Wish("auto", 0.25), [HEAD, GPU_NODE, GPU_NODE], [], "GPU", 16),
        (Wish("auto", 0.25), [GPU_NODE, CPU_NODE], [], "CPU", 8),
        (Wish("auto"), [HEAD], [], "CPU", 0),
        (Wish("auto"), [GPU_NODE], ["CPU"], "CPU", 4),
        (Wish("mixed"), [GPU_NODE], ["CPU"], "GPU", 2),
        (Wish("gpu"), [GPU_NODE, CPU_NODE], [], "GPU", 2),
        (Wish("gpu", 1.0, "A100"), [GPU_NODE, {"GPU": 8.0}], [], "GPU", 2),
        (Wish("auto", 4.0), [GPU_NODE], [], "CPU", 4),
    ],
)
def test_nodes_of_one_kind_take_part(
    wish: Wish, nodes: list[dict[str, float]], there: list[str], device: str, slots: int
):
    runner = RayRunner("10.0.0.5:6379", wish=wish)
    runner._members = Members(lambda: dict(zip("abc", nodes, strict=False)), runner._share, "10.0.0.5:6379")
    assert runner.settle(there) == device
    assert sum(runner._members.room().values()) == slots
    runner._members.stop()


def test_a_task_asks_for_its_share_and_no_more():
    share = Share(0.25, GIB, "A100", {"zone": "!eu"})
    assert share.options == {
        "num_cpus": 0,
        "num_gpus": 0.25,
        "memory": GIB,
        "accelerator_type": "A100",
        "label_selector": {"zone": "!eu"},
    }
    assert Share().options == {"num_cpus": 1, "num_gpus": 0.0}
    assert share.bundle(8) == pytest.approx({"GPU": 2.0, "memory": 8.0 * GIB, "accelerator_type:A100": 0.008})
    assert share.missing("this machine") == (
        "--device gpu:A100: this machine has no node with zone=!eu with 0.25 of such a GPU"
    )


def test_a_gpu_that_tensorflow_does_not_see_is_refused_before_anything_is_begun(place: Path, capsys):
    assert main(["run", "study.toml", "--runner", "inline", "--device", "gpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "sweep: --device gpu: TensorFlow sees no GPU here"
    assert not Path("results").exists()


def test_cpus_are_refused_where_the_process_has_begun_on_a_gpu(place: Path, gpu: None):
    with pytest.raises(InputError, match=r"^--device cpu: TensorFlow uses a GPU in this process; begin a new one"):
        sweep.run("study.toml", "run", runner="inline", device="cpu")


def test_a_worker_of_another_kind_refuses(place: Path, gpu: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensors, "sees_gpu", lambda: False)
    with pytest.raises(NodeError, match=r"^TensorFlow uses a GPU there, and this run is on CPUs; --device mixed takes"):
        sweep.run("study.toml", "run", runner="inline")
    monkeypatch.setattr(tensors, "sees_gpu", lambda: True)
    monkeypatch.setattr(tensors, "device", lambda: "CPU")
    with pytest.raises(NodeError, match=r"^TensorFlow sees no GPU, though .* or run on CPUs: --device cpu$"):
        sweep.run("study.toml", "other", runner="inline")
    fresh_on_cpu(monkeypatch)
    sweep.run("study.toml", "other", runner="inline")  # nothing came of the GPU
    assert devices("other") == ["CPU"]


@pytest.mark.slow
def test_kinds_mix_when_asked_for_alone(place: Path, gpu: None, monkeypatch: pytest.MonkeyPatch, capsys):
    """Begun on a GPU, refused on a CPU, gone on on both; the finished run opens on any machine."""
    sweep.run("study.toml", "run", runner="inline", seeds=3)
    assert devices("run") == ["GPU"]
    assert set(sweep.open_run("run").trials()["device"]) == {"GPU"}
    before = results("run")
    fresh_on_cpu(monkeypatch)
    sweep.run("study.toml", "run", runner="inline", seeds=3)  # nothing is to do, so nothing mixes
    assert main(["run", "study.toml", "--out", "run", "--runner", "inline"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        "/run: its trials were evaluated on GPUs, and these would be on CPUs, where rounding may turn a decision; "
        "--device gpu goes on as before, --device mixed takes both"
    )
    pd.testing.assert_frame_equal(results("run"), before, check_exact=True)
    run = sweep.run("study.toml", "run", runner="inline", device="mixed")
    assert devices("run") == ["CPU", "GPU"]
    assert "joined" not in capsys.readouterr().err
    counts = run.trials()["device"].value_counts()
    report = Path(run.write_report()).read_text()
    assert f"{counts['CPU']} trials on CPUs and {counts['GPU']} trials on GPUs were evaluated" in report
    sweep.run("study.toml", "run", runner="inline", seeds=8)  # it has both already
    sweep.run("study.toml", "undisturbed", runner="inline", seeds=8)
    assert devices("undisturbed") == ["CPU"]
    pd.testing.assert_frame_equal(results("run"), results("undisturbed"), check_exact=True)


def fresh_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "sees_gpu", lambda: False)
    monkeypatch.setattr(tensors, "device", lambda: "CPU")
    worker._networks.clear()
    worker._evaluators.clear()


def test_a_run_of_an_earlier_version_says_it_row_by_row(place: Path, monkeypatch: pytest.MonkeyPatch):
    sweep.run("study.toml", "run", runner="inline", seeds=3)
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest.pop("devices") == ["CPU"]
    Path("run/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"^--device gpu: TensorFlow sees no GPU here$"):
        sweep.run("study.toml", "run", runner="inline", device="gpu")
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "sees_gpu", lambda: True)
        with pytest.raises(InputError, match=r"were evaluated on CPUs, .* --device cpu goes on as before"):
            sweep.run("study.toml", "run", runner="inline", device="gpu")
    sweep.run("study.toml", "run", runner="inline", device="auto")
    assert devices("run") == ["CPU"]


@pytest.mark.parametrize("turned", [1, 40])
def test_verify_counts_decisions_that_another_device_takes(
    place: Path, gpu: None, monkeypatch: pytest.MonkeyPatch, capsys, turned: int
):
    sweep.run("study.toml", "run", runner="inline")
    fresh_on_cpu(monkeypatch)
    assert checks.verify("run").sound
    evaluated = checks._evaluated

    def otherwise(*arguments: object) -> Iterator[dict[str, object]]:
        for row in evaluated(*arguments):
            yield {**row, "n_correct": row["n_correct"] - turned}

    monkeypatch.setattr(checks, "_evaluated", otherwise)
    status = main(["verify", "run", "--sample", "4"])
    out = capsys.readouterr().out
    assert "0 of 4 trials evaluated again have the same count" in out
    line = "4 of them, evaluated on another kind of device or processor then, differ by 4 decisions in all"
    assert (line in out) is (turned == 1)
    assert status == (0 if turned == 1 else 1), "more than rounding turns"
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "device", lambda: "GPU")  # the same kind: it has to be the same count
        assert not checks.verify("run", 4).sound


def test_widths_of_processors_are_recorded_told_apart_and_forgiven(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    sweep.run("study.toml", "run", runner="inline", seeds=3)
    hosts = json.loads(Path("run/manifest.json").read_text())["hosts"]
    assert [host["width"] for host in hosts] == [machine.width()]
    capsys.readouterr()
    monkeypatch.setattr(machine_of_rows, "width", lambda: "wider")
    sweep.run("study.toml", "run", runner="inline")
    hosts = json.loads(Path("run/manifest.json").read_text())["hosts"]
    assert {host["width"] for host in hosts} == {machine.width(), "wider"}
    assert f"computes by wider, other machines of this run by {machine.width()}: about one" in capsys.readouterr().err
    evaluated = checks._evaluated

    def otherwise(*arguments: object) -> Iterator[dict[str, object]]:
        for row in evaluated(*arguments):
            yield {**row, "n_correct": row["n_correct"] - 1}

    monkeypatch.setattr(checks, "_evaluated", otherwise)
    verdict = checks.verify("run", 4)
    assert (verdict.sound, len(verdict.moved), verdict.decisions) == (True, 4, 4)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the rule for x86")
def test_whether_onednn_is_on_is_recorded(place: Path):
    """By its setting, or by itself where there are instructions for neural networks."""
    sweep.run("study.toml", "run", runner="inline", seeds=1)
    (host,) = json.loads(Path("run/manifest.json").read_text())["hosts"]
    found = "1" if "VNNI" in machine.width() else "0"
    assert host["onednn"] == {"0": "off", "1": "on"}[os.environ.get("TF_ENABLE_ONEDNN_OPTS", found)]


def test_a_second_width_is_said_once():
    one, two, three = ({"host": name, "width": name} for name in "abc")
    assert of_several_widths(one, []) == ""
    assert of_several_widths(one, [{"host": "of an earlier version"}]) == ""
    assert of_several_widths(two, [one]).startswith("b computes by b, other machines of this run by a")
    assert of_several_widths(three, [one, two]) == ""
    assert of_several_widths({"host": "d", "width": "a"}, [one]) == ""


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("flags\t: fpu avx avx2 avx512f avx512_vnni", "AVX-512 VNNI"),
        ("flags\t: fpu avx avx2", "AVX2"),
        ("Features\t: fp asimd", "NEON"),
    ],
)
def test_how_wide_a_processor_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, width: str):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    for name in machine.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert machine.width() == width
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert machine.width() == f"{width}, TF_ENABLE_ONEDNN_OPTS=0"


def test_shares_of_a_gpu_take_the_memory_that_they_need(monkeypatch: pytest.MonkeyPatch):
    """What TensorFlow is told, with a GPU that is none."""
    said: list[tuple[object, ...]] = []
    config = tf_ops.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [f"{kind}:0"])
    monkeypatch.setattr(config, "get_visible_devices", lambda _: ["GPU:0"])
    monkeypatch.setattr(config, "set_visible_devices", lambda *what: said.append(("visible", *what)))
    monkeypatch.setattr(config.threading, "set_intra_op_parallelism_threads", lambda _: None)
    monkeypatch.setattr(config.threading, "set_inter_op_parallelism_threads", lambda _: None)
    monkeypatch.setattr(config.experimental, "set_memory_growth", lambda *what: said.append(("growth", *what)))
    monkeypatch.setattr(config.experimental, "enable_tensor_float_32_execution", lambda on: said.append(("tf32", on)))
    tensors.configure(1)
    assert said == [("growth", "GPU:0", True), ("tf32", False)]
    said.clear()
    monkeypatch.setattr(config, "get_visible_devices", lambda _: [])
    tensors.configure(1, gpus=False)
    assert said == [("growth", "GPU:0", True), ("visible", [], "GPU")]
