"""Run folders that mean harm, made from a sound one: what is changed in each, and what every reader must say to it."""

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PLUGIN = '''
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.perturb import Rounding, Levels, Transform, parameter, register

if "CANARY" in os.environ:
    Path(os.environ["CANARY"]).write_text("it ran")


@register("stripes")
@dataclass(frozen=True, kw_only=True)
class Stripes(Transform):
    """w + s · v, one v ~ N(0, 1) for each output channel.

    Source: Liu et al., DAC 2015.
    """

    scale: float = parameter("noise level", minimum=0.0)
    basis: str = parameter("of what", choices=("absolute", "weight"), default="absolute")
    steps: int = parameter("rounded to so many", minimum=1, maximum=2**20, default=2**20)
    both: bool = parameter("whether", default=False)

    @property
    def random(self):
        return self.scale > 0

    def apply(self, weight, variable, generator):
        return weight + np.float32(self.scale) * generator.standard_normal(weight.shape[-1:], dtype="float32")


@register("grid")
@dataclass(frozen=True, kw_only=True)
class Grid(Rounding):
    """x on a grid"""

    step: float = parameter("between levels", minimum=1e-3)

    def levels(self, sample):
        return Levels(self.step)
'''

STUDY = """
name = "own"
model = "net.keras"
dataset = "data.npz"
seeds = 4
plugins = ["my_noise.py"]

[[family]]
name = "stripes"
perturb = [ { op = "stripes", scale = [0.0, 0.1], basis = ["absolute", "weight"] } ]
published = [ { scale = 0.1, basis = "weight", accuracy = 0.8 } ]

[[family]]
name = "grid"
perturb = [ { op = "grid", step = [0.5, 0.25] } ]

[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0, 0.1] } ]
"""


def run_own(place: Path) -> Path:
    """A run of a study with a plugin, made by another process: this one has never run the plugin."""
    (place / "my_noise.py").write_text(PLUGIN)
    (place / "own.toml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", "own.toml", "--out", "run", "--runner", "inline"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return place / "run"


def edited(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """With another manifest."""
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def shard(run: Path, content: bytes, rows: int | None = None) -> None:
    """With this file in place of the only shard, which the manifest vouches for."""
    (path,) = (run / "trials").glob("*.parquet")
    path.write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
        manifest["shards"][0]["rows"] = manifest["shards"][0]["rows"] if rows is None else rows

    edited(run, change)


def trials(run: Path) -> pa.Table:
    (path,) = (run / "trials").glob("*.parquet")
    return pq.ParquetFile(path).read()


def packed(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **{"compression": "zstd", "write_page_checksum": True, **options})
    return buffer.getvalue()


def with_values(run: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """With other values in one column of the trials."""
    table = trials(run)
    field = table.schema.field(column)
    values = pa.array(change(table[column].to_pylist()), field.type)
    shard(run, packed(table.set_column(table.schema.names.index(column), field, values)))


def one(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [values[0], value, *values[2:]]  # the first is that of the clean network


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda run: edited(run, change)


def _column(column: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Path], None]:
    return lambda run: with_values(run, column, change)


def _text(old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / "study.toml").read_text()
        assert old in text
        (run / "study.toml").write_text(text.replace(old, new))

    return change


def _named(name: Any) -> Callable[[Path], None]:
    return _manifest(lambda m: m["shards"][0].update(name=name))


def _extra_column(run: Path) -> None:
    table = trials(run)
    shard(run, packed(table.append_column("more", pa.array([1] * len(table)))))


def _other_type(run: Path) -> None:
    table = trials(run)
    at = table.schema.names.index("n_images")
    shard(run, packed(table.set_column(at, "n_images", table["n_images"].cast(pa.string()))))


def _many_texts(run: Path) -> None:
    """A kilobyte that stands for gigabytes: one text of a megabyte, in every row."""
    table = trials(run)
    rows = pa.concat_tables([table] * 500).combine_chunks()
    field = table.schema.field("host")
    hosts = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), pa.array(["x" * 2**20]))
    rows = rows.set_column(table.schema.names.index("host"), pa.field("host", hosts.type), hosts)
    content = packed(rows, store_schema=False)
    assert len(content) < 50_000
    assert pq.ParquetFile(pa.BufferReader(content)).schema_arrow.field("host").type == field.type
    shard(run, content, len(rows))


def _link(name: str, to: str) -> Callable[[Path], None]:
    """A file or folder of the run that leads elsewhere."""

    def change(run: Path) -> None:
        path = run / name
        if path.is_dir():
            path.rename(run.parent / f"moved-{name}")
        elif path.exists():
            path.unlink()
        path.symlink_to(run.parent / to)

    return change


def _pipe(run: Path) -> None:
    (run / "study.toml").unlink()
    os.mkfifo(run / "study.toml")


def _huge(run: Path) -> None:
    os.truncate(run / "manifest.json", 1 << 40)


def _deep(run: Path) -> None:
    (run / "manifest.json").write_text("[" * 200_000)


def _deep_study(run: Path) -> None:
    (run / "study.toml").write_text("x = " + "[" * 5_000)


def _no_study(run: Path) -> None:
    (run / "study.toml").unlink()


def _more_cells(run: Path) -> None:
    levels = ", ".join(str(i / 1000) for i in range(1000))
    _text("scale = [\n    0.0,\n    0.1,\n]", f"scale = [{levels}]")(run)


def _stand_in(**changes: Any) -> Callable[[Path], None]:
    return _manifest(lambda m: m["ops"]["stripes"]["parameters"].update(changes))


MANIFESTS = {
    "a shard above": (_named("../../victim.parquet"), r"manifest\.json: is damaged: shards\[0\]"),
    "a shard elsewhere": (_named("/etc/passwd"), r"manifest\.json: is damaged: shards\[0\]"),
    "a shard below": (_named("a/b.parquet"), r"manifest\.json: is damaged: shards\[0\]"),
    "a shard that is hidden": (_named(".a.parquet"), r"manifest\.json: is damaged: shards\[0\]"),
    "a shard with a zero byte": (_named("a\0.parquet"), r"manifest\.json: is damaged: shards\[0\]"),
    "a shard without a name": (_named(3), r"manifest\.json: is damaged: shards\[0\]"),
    "a long name": (_named("a" * 999 + ".parquet"), r"manifest\.json: is damaged: shards\[0\]"),
    "rows": (_manifest(lambda m: m["shards"][0].update(rows=-1)), r"manifest\.json: is damaged: shards\[0\]"),
    "rows true": (_manifest(lambda m: m["shards"][0].update(rows=True)), r"manifest\.json: is damaged: shards\[0\]"),
    "rows without end": (_manifest(lambda m: m["shards"][0].update(rows=1e400)), r"is damaged: Infinity is no number"),
    "a huge number": (_manifest(lambda m: m.update(generation=10**400)), r"is damaged: generation"),
    "half a character": (_manifest(lambda m: m.update(name="\ud800")), r"manifest\.json: is damaged"),
    "no checksum": (_manifest(lambda m: m["shards"][0].update(sha256="")), r"manifest\.json: is damaged: shards\[0\]"),
    "replaced above": (_manifest(lambda m: m.update(replaced=["../../victim.parquet"])), r"is damaged: replaced"),
    "replaced elsewhere": (_manifest(lambda m: m.update(replaced=["/victim.parquet"])), r"is damaged: replaced"),
    "hosts": (_manifest(lambda m: m.update(hosts=[3])), r"is damaged: hosts"),
    "chance": (_manifest(lambda m: m.update(chance={"net": 7})), r"is damaged: chance"),
    "versions": (_manifest(lambda m: m.update(versions=[])), r"is damaged: versions"),
    "time": (_manifest(lambda m: m.update(wall_seconds="now")), r"is damaged: wall_seconds"),
    "endless time": (_manifest(lambda m: m.update(wall_seconds=10**400)), r"is damaged: wall_seconds"),
    "identity": (_manifest(lambda m: m.update(identity=[])), r"is damaged: identity"),
    "a plugin above": (
        _manifest(lambda m: m["identity"].update(plugins={"../x.py": "../" * 20})),
        r"is damaged: identity",
    ),
    "deep": (_deep, r"is damaged: its lists are too deep"),
    "larger than a disk": (_huge, r"manifest\.json: cannot be read: it has 1,099,511,627,776 bytes"),
    "no description": (_manifest(lambda m: m["ops"].update(stripes=3)), r"is damaged: ops\.stripes: is no description"),
    "a parameter's name": (_stand_in(**{"a b": {"type": "float"}}), r"ops\.stripes: 'a b' cannot be the name"),
    "a parameter that is a method": (_stand_in(apply={"type": "float"}), r"ops\.stripes: 'apply' cannot be the name"),
    "a parameter's type": (
        _stand_in(scale={"type": "os.system"}),
        r"ops\.stripes: parameters\.scale\.type: 'os\.system' is not valid; choose one of float, int",
    ),
    "an axis": (_stand_in(scale={"type": "float", "spacing": "cubic"}), r"ops\.stripes: spacing 'cubic'"),
    "a label": (_stand_in(scale={"type": "float", "label": ["x"]}), r"ops\.stripes: label \['x'\]"),
    "units": (_stand_in(scale={"type": "float", "unit": {"basis": "x"}}), r"ops\.stripes: label None or unit"),
    "a figure": (
        _manifest(lambda m: m["ops"]["stripes"]["used"][0].update(std_per_level="1")),
        r"ops\.stripes: used\[0\]\.std_per_level: '1' is not a number",
    ),
    "nothing of its use": (_manifest(lambda m: m["ops"]["stripes"].update(used=[])), r"stripes: the run says nothing"),
}
STUDIES = {
    "no study": (_no_study, r"has no study\.toml"),
    "deep study": (_deep_study, r"study\.toml: is not valid TOML"),
    "control characters": (_text('name = "grid"\n', 'name = "grid\\u001b[2J"\n'), r"has control characters"),
    "a name that is a path": (_text('name = "own"', 'name = "../own"'), r"study\.toml: name: '\.\./own' is not a name"),
    "more cells than the run has": (_more_cells, r"makes 2,004 cells, and manifest\.json lists 8"),
    "other values": (_text("step = [\n", "step = [\n    0.125,\n"), r"makes 9 cells, and manifest\.json lists 8"),
    "a pipe": (_pipe, r"study\.toml: cannot be read: it is no ordinary file"),
}
SHARDS = {
    "accuracy": (_column("accuracy", one(7.0)), r"has an accuracy that is not right by images"),
    "no accuracy": (_column("accuracy", one(float("nan"))), r"has an accuracy that is not right by images"),
    "more right than there are": (_column("n_correct", one(10**9)), r"has more images right than there are"),
    "fewer right than none": (_column("n_correct", one(-1)), r"has more images right than there are"),
    "no images": (_column("n_images", lambda v: [0] * len(v)), r"has no images"),
    "no numbers": (_column("n_nonfinite", one(-5)), r"has more images without a score"),
    "a seed": (_column("seed", one(-1)), r"has a seed below 0"),
    "seeds without randomness": (_column("seed", one(9)), r"has a seed in a cell without randomness"),
    "seconds": (_column("seconds", one(-1.0)), r"has a time below 0"),
    "another cell": (_column("cell", one("<script>")), r"has trials of '<script>', which is no cell"),
    "another model": (_column("model", one("=1+1")), r"says of net/stripes/.* that it is"),
    "another level": (_column("scale", one(5.0)), r"says of net/stripes/.* that it is"),
    "no level": (_column("scale", one(None)), r"says of net/stripes/.* that it is"),
    "a column more": (_extra_column, r"its columns are not those of the study"),
    "another type": (_other_type, r"its columns are not those of the study"),
    "texts that unpack": (_many_texts, r"its texts would take [\d,]{13} bytes"),
    "no Parquet file": (lambda run: shard(run, b"\x80\x04." * 50), r"is not a readable Parquet file"),
}
LINKS = {
    "study elsewhere": (_link("study.toml", "victim/study.toml"), r"study\.toml: cannot be read: .*link"),
    "manifest elsewhere": (_link("manifest.json", "victim/study.toml"), r"manifest\.json: cannot be read: .*link"),
    "trials elsewhere": (_link("trials", "moved-trials"), r"cannot be read: trials is a link"),
}
