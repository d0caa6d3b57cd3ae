"""Model files that try to be more than a network, each made from a good file and one change.

The programs, modules and paths that they name do not exist; were one of them used, its name would show.
"""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Json = dict[str, Any]
PATH = "/nowhere/stolen"
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAA=", "defaults": None, "closure": None}}


def layer(name: str, module: str = "keras.layers", registered: str | None = None, **config: Any) -> Json:
    config = {"name": name.lower(), **config}
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def function(name: str, module: str) -> Json:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


TFSM = layer("TFSMLayer", filepath=PATH, call_endpoint="serve")
DENSE = layer("Dense", units=3, activation="linear")
NESTED = layer("Sequential", "keras", layers=[layer("Sequential", "keras", layers=[TFSM])])
FUNCTIONAL = layer(
    "Functional",
    "keras.src.models.functional",
    layers=[TFSM | {"name": "inner", "inbound_nodes": []}],
    input_layers=[["inner", 0, 0]],
    output_layers=[["inner", 0, 0]],
)

LAYERS: dict[str, tuple[Any, str]] = {
    "lambda": (layer("Lambda", function=LAMBDA), "runs code"),
    "lambda around a TFSMLayer": (layer("Lambda", function=TFSM), "runs code"),
    "tfsm": (TFSM, "loads a TensorFlow program"),
    "nested sequential": (NESTED, "loads a TensorFlow program"),
    "nested functional": (FUNCTIONAL, "loads a TensorFlow program"),
    "time distributed": (layer("TimeDistributed", layer=layer("Lambda", function=LAMBDA)), "runs code"),
    "bidirectional": (layer("Bidirectional", layer=layer("RNN", cell=[TFSM])), "loads a TensorFlow program"),
    "torch": (layer("TorchModuleWrapper", lib="gASVAAAA"), "unpickles"),
    "jax": (layer("JaxLayer", call_fn=function("call", "jax.nn")), "calls functions"),
    "flax": (layer("FlaxLayer", method=function("call", "jax.nn")), "calls functions"),
    "string lookup": (layer("StringLookup", vocabulary=PATH), "vocabulary"),
    "integer lookup": (layer("IntegerLookup", vocabulary=PATH), "vocabulary"),
    "text": (layer("TextVectorization", vocabulary=PATH), "vocabulary"),
    "hashing": (layer("Hashing", num_bins=3), "words"),
    "unknown": (layer("Dense2"), "not one that a network may be made of"),
    "another module": (layer("system", "os"), "of 'os' is not one"),
    "a private module": (layer("Lambda2", "keras.src.layers.core.lambda_layer"), "not one"),
    "a utility": (layer("FeatureSpace", "keras.utils"), "not one"),
    "no module": (layer("Mine", module=None), "not one"),  # type: ignore[arg-type]
    "registered": (layer("Dense", registered="theirs>Dense", units=3), "author's own"),
    "registered elsewhere": (layer("Mine", "theirs", registered="theirs>Mine"), "not one"),
    "get_file as activation": (
        layer("Dense", units=3, activation=function("get_file", "keras.utils")),
        "'get_file' of 'keras.utils'",
    ),
    "builtin as activation": (layer("Dense", units=3, activation=function("eval", "builtins")), "'eval'"),
    "lambda as activation": (layer("Dense", units=3, activation=LAMBDA), "code stored in the file"),
    "word as activation": (layer("Dense", units=3, activation="their_activation"), "not one of Keras's own"),
    "deserialize as argument": (layer("Flatten", data_format="deserialize"), "names a function"),
    "layer as initializer": (layer("Dense", units=3, kernel_initializer=TFSM), "loads a TensorFlow program"),
    "layer as precision": (layer("Dense", units=3, dtype=TFSM), "loads a TensorFlow program"),
    "layer as seed": (layer("Dropout", rate=0.5, seed=TFSM), "loads a TensorFlow program"),
    "layer as name": (layer("Dense", units=3) | {"config": {"name": TFSM, "units": 3}}, "loads a TensorFlow program"),
    "behind a key that is skipped": (layer("Dense", units=3, bias_constraint={"module": TFSM}), "loads a TensorFlow"),
    "as a shape": (layer("Reshape", target_shape=TFSM), "loads a TensorFlow program"),
    "as a shape's entry": (layer("Reshape", target_shape=[DENSE]), "not a shape"),
    "compiled within": (layer("Sequential", "keras", layers=[]) | {"compile_config": {"loss": TFSM}}, "TensorFlow"),
    "optimizer outside": (layer("Dense", units=3, bias_constraint=layer("Adam", "keras.optimizers")), "not one"),
    "built within": (DENSE | {"build_config": {"input_shape": TFSM}}, "loads a TensorFlow program"),
    "called with numbers": (layer("RepeatVector", n=2**40) | {"inbound_nodes": [{"args": [[[1]]]}]}, "called with"),
    "called with a layer": (
        DENSE
        | {"inbound_nodes": [{"args": [{"class_name": "__keras_tensor__", "config": {}}], "kwargs": {"x": TFSM}}]},
        "loads a TensorFlow program",
    ),
    "called with a layer, as Keras 2": (DENSE | {"inbound_nodes": [[["a", 0, 0, {"x": TFSM}]]]}, "TensorFlow program"),
    "typespec": (
        layer("Dense", units={"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}),
        "class of TensorFlow",
    ),
    "old typespec": (
        layer("Dense", units={"class_name": "TypeSpec", "type_spec": "x", "serialized": []}),
        "TensorFlow",
    ),
    "composite": (layer("Dense", units={"class_name": "CompositeTensor", "spec": {}, "tensors": []}), "TensorFlow"),
    "array of texts": (
        layer("Dense", units={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "S4000000000"}}),
        "array of an unknown type",
    ),
    "a path": (layer("Dense", units=3, kernel_initializer=PATH), "looks like a path"),
    "an address": (layer("Dense", units=3, padding="http://nowhere.invalid"), "looks like a path"),
    "a home": (layer("Dense", units=3, padding="~stolen"), "looks like a path"),
    "a backslash": (layer("Dense", units=3, padding="C:\\stolen"), "looks like a path"),
    "NaN as shape": (layer("InputLayer", batch_shape=[None, float("nan")]), "not a shape"),
    "infinity as shape": (layer("InputLayer", batch_shape=[None, float("inf")]), "not a shape"),
    "words as shape": (layer("InputLayer", batch_shape=[None, "28"]), "not a shape"),
    "a word as shape": (layer("Reshape", target_shape="28"), "not a shape"),
    "a negative shape": (layer("InputLayer", batch_shape=[None, -5]), "not a shape"),
    "a huge shape": (layer("InputLayer", batch_shape=[None, 10**12]), "not a shape"),
    "a huge layer": (layer("Dense", units=10**10), "more than all the values"),
    "a huge number": (layer("Dense", units=10**100), "too large"),
    "a class that is a list": ({"class_name": ["Dense"], "config": {}}, "not names"),
    "a class that is a number": (layer("Dense") | {"module": 7}, "not names"),
    "no configuration": ({"module": "keras.layers", "class_name": "Dense"}, "configuration of a Dense"),
    "many": ([TFSM] * 1000, "more of the kind"),
}
"""A layer in a model's configuration, or several, and words of the refusal."""


def deep(levels: int) -> Json:
    inner: Any = 1
    for _ in range(levels):
        inner = [inner]
    return layer("Dense", units=3, bias_constraint=inner)


def texts() -> dict[str, tuple[bytes, str]]:
    """Configurations that are not what they should be even before they are looked into."""
    opened = b'{"class_name": "Sequential", "config": {"name": "n", "layers": '
    return {
        "nothing": (b"", "not JSON"),
        "no JSON": (b"{'class_name': 1}", "not JSON"),
        "cut JSON": (opened, "not JSON"),
        "no text": (b"\xff\xfe\xff\xff\xff", ""),
        "no model": (b"[1, 2]", "does not describe a model"),
        "a number": (b"NaN", "does not describe a model"),
        "digits": (b"9" * 100_000, "not JSON"),
        "deep": (opened + b"[" * 1_000_000, "nested too deeply"),
        "deep, closed": (opened + b"[" * 400 + b"]" * 400 + b"}}", "nested too deeply"),
        "deep objects": (b'{"a":' * 500_000, "nested too deeply"),
        "wide": (opened + b"[" + b"[]," * 2_000_000 + b"[]]}}", "more than 1000000 parts"),
        "huge": (opened + b'"' + b" " * (10 << 20) + b'"}}', "larger than 8 MiB"),
        "twice": (
            b'{"class_name": "Lambda", "config": {}, "class_name": "Sequential", "config": {"layers": [%s]}}'
            % json.dumps(TFSM).encode(),
            "loads a TensorFlow program",
        ),
    }


def parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put_together(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, inner in content.items():
            archive.writestr(name, inner)
    return path


def with_config(good: Path, path: Path, text: bytes) -> Path:
    """The good file with another configuration."""
    if good.suffix == ".keras":
        return put_together(path, parts(good) | {"config.json": text})
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
        # A text as Keras writes it: of any length, in the file's heap.
        kind = h5py.string_dtype(length=max(1, len(text))) if b"\xff" in text else h5py.string_dtype()
        value = np.array(text, dtype=kind) if b"\xff" in text else text.decode()
        file.attrs.create("model_config", value, dtype=kind)
    return path


def with_layer(good: Path, path: Path, added: Any) -> Path:
    """The good file with one layer more, or several."""
    config = json.loads(config_of(good))
    config["config"]["layers"] += copy.deepcopy(added if isinstance(added, list) else [added])
    return with_config(good, path, json.dumps(config).encode())


def config_of(path: Path) -> bytes:
    if path.suffix == ".keras":
        return parts(path)["config.json"]
    with h5py.File(path) as file:
        text = file.attrs["model_config"]
        return text if isinstance(text, bytes) else text.encode()


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource(PATH, "x", shape=(4,))
    file.create_virtual_dataset("more", layout)


def _filtered(file: h5py.File) -> None:
    file.create_dataset("more", data=np.zeros(100, "f4"), compression="lzf")


def _loop(file: h5py.File) -> None:
    group = file.create_group("a/b")
    group["again"] = file["a"]


def _deep(file: h5py.File) -> None:
    group = file
    for _ in range(100):
        group = group.create_group("g")


def _bomb(file: h5py.File) -> None:
    data = file.create_dataset("more", (1 << 27,), "f8", chunks=(1 << 17,), compression="gzip")
    data[: 1 << 17] = 0


def _many(file: h5py.File) -> None:
    group = file.create_group("g")
    for number in range(50_001):
        group.id.links.create_soft(b"%d" % number, b"x")


def _wide_chunk(file: h5py.File) -> None:
    data = file.create_dataset("more", (1,), "f4", maxshape=(None,), chunks=(1 << 25,), compression="gzip", fillvalue=0)
    data[0] = 1


def _lists(file: h5py.File) -> np.ndarray:
    values = np.empty(1, h5py.vlen_dtype("f4"))
    values[0] = np.zeros(3, "f4")
    return values


def _attribute(name: str, value: Any, dtype: Any = None) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.create(name, value(file) if callable(value) else value, dtype=dtype)


def _link(target: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__("more", target)


HDF5: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "soft link": (_link(h5py.SoftLink("/model_weights")), "a soft link"),
    "soft link to nowhere": (_link(h5py.SoftLink("/x")), "a soft link"),
    "soft link to itself": (_link(h5py.SoftLink("/more")), "a soft link"),
    "external link": (_link(h5py.ExternalLink(PATH, "/x")), "a link to another file"),
    "deep external link": (
        lambda file: file.create_group("a/b").__setitem__("c", h5py.ExternalLink(PATH, "/")),
        "'/a/b' holds a link to another file",
    ),
    "virtual": (_virtual, "put together from other datasets"),
    "external": (
        lambda file: file.create_dataset("more", (4,), "f4", external=[(PATH, 0, 16)]),
        "lies in another file",
    ),
    "loop": (_loop, "second name"),
    "loop to the root": (lambda file: file.__setitem__("more", file["/"]), "second name"),
    "deep": (_deep, "nested deeper"),
    "many": (_many, "more of the kind"),
    "shape bomb": (_bomb, "is compressed"),
    "shape bomb, nothing stored": (lambda file: file.create_dataset("more", (1 << 40,), "f8"), "declares"),
    "shape bomb, in chunks": (
        lambda file: file.create_dataset("more", (1 << 40,), "f8", chunks=(1024,), fillvalue=1),
        "stored in pieces",
    ),
    "chunk bomb": (_wide_chunk, "is compressed"),
    "filter": (_filtered, "is compressed"),
    "texts": (lambda file: file.create_dataset("more", data=["a", "b"]), "does not hold numbers"),
    "references": (lambda file: file.create_dataset("more", (2,), h5py.ref_dtype), "holds neither text nor numbers"),
    "lists": (lambda file: file.create_dataset("more", (2,), h5py.vlen_dtype("f4")), "holds neither text nor numbers"),
    "structures": (lambda file: file.create_dataset("more", (2,), [("a", "f4")]), "holds neither text nor numbers"),
    "a type": (lambda file: file.__setitem__("more", np.dtype("f4")), "neither a group nor a tensor"),
    "attribute of references": (_attribute("more", lambda file: file.ref, h5py.ref_dtype), "neither text nor numbers"),
    "attribute of lists": (_attribute("more", _lists, h5py.vlen_dtype("f4")), "neither text nor numbers"),
}
"""What is added to an HDF5 file, and words of the refusal."""


def _tree_within_itself(content: bytearray) -> None:
    tree = content.index(b"TREE")
    content[tree + 5] = 1
    content[tree + 32 : tree + 40] = struct.pack("<Q", tree)


def _names_in_circles(content: bytearray) -> None:
    heap = content.index(b"HEAP")
    (names,) = struct.unpack_from("<Q", content, heap + 24)
    content[heap + 16 : heap + 24] = struct.pack("<Q", 8)
    content[names + 8 : names + 24] = struct.pack("<QQ", 8, 16)


def _texts_in_circles(content: bytearray) -> None:
    at = content.rindex(b"GCOL") + 16  # the last one has room
    while struct.unpack_from("<H", content, at)[0]:
        (size,) = struct.unpack_from("<Q", content, at + 8)
        at += 16 + size + -size % 8
    content[at + 8 : at + 16] = bytes(8)


def _header_in_circles(content: bytearray) -> None:
    (header,) = struct.unpack_from("<Q", content, 64)
    content[header + 16 : header + 40] = struct.pack("<HHB3xQQ", 0x10, 16, 0, header + 16, 24)
    content[header + 8 : header + 12] = struct.pack("<I", 24)


RECORDS: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "tree within itself": (_tree_within_itself, "goes in circles"),
    "names in circles": (_names_in_circles, "goes astray"),
    "texts in circles": (_texts_in_circles, "go astray"),
    "header in circles": (_header_in_circles, "goes in circles"),
}
"""What is done to the bytes of an HDF5 file so that a reader would not come to an end, and words of the refusal."""


def with_hdf5(good: Path, path: Path, change: Callable[[h5py.File], Any]) -> Path:
    """The good file with its HDF5 file changed, or the one within."""
    buffer = io.BytesIO(parts(good)["model.weights.h5"] if good.suffix == ".keras" else good.read_bytes())
    with h5py.File(buffer, "r+") as file:
        change(file)
    return _with_content(good, path, buffer.getvalue())


def _with_content(good: Path, path: Path, content: bytes) -> Path:
    if good.suffix == ".keras":
        return put_together(path, parts(good) | {"model.weights.h5": content})
    path.write_bytes(content)
    return path


def _patched(path: Path, name: bytes, other: bytes) -> Path:
    content = path.read_bytes()
    assert len(name) == len(other)
    assert name in content
    path.write_bytes(content.replace(name, other))
    return path


def _flagged(path: Path, offset: int, value: int) -> Path:
    """Changes a 16-bit field of the first entry of the central directory."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + offset : start + offset + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    return path


def _twice(good: Path, path: Path) -> Path:
    content = parts(good)
    put_together(path, {"config.jsom": config_of(good)} | content)
    return _patched(path, b"config.jsom", b"config.json")


ARCHIVES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "dots": (lambda good, path: put_together(path, parts(good) | {"../../stolen": b""}), "holds '../../stolen'"),
    "absolute": (lambda good, path: put_together(path, parts(good) | {PATH: b""}), f"holds '{PATH}'"),
    "backslash": (lambda good, path: put_together(path, parts(good) | {"..\\stolen": b""}), "holds"),
    "control": (lambda good, path: put_together(path, parts(good) | {"a\x1b[2J\nb": b""}), r"holds 'a\x1b[2J\nb'"),
    "zero byte": (
        lambda good, path: _patched(
            put_together(path, parts(good) | {"config.jsonXX": b"{}"}), b"config.jsonXX", b"config.json\0X"
        ),
        "",
    ),
    "vocabulary": (lambda good, path: put_together(path, parts(good) | {"assets/vocabulary.txt": b"a"}), "assets"),
    "npz": (lambda good, path: put_together(path, parts(good) | {"model.weights.npz": b"a"}), "npz"),
    "shards": (lambda good, path: put_together(path, parts(good) | {"model.weights.json": b"{}"}), "weights.json"),
    "twice": (_twice, "2 times"),
    "no weights": (
        lambda good, path: put_together(path, {"config.json": config_of(good)}),
        "holds no model.weights.h5",
    ),
    "no configuration": (
        lambda good, path: put_together(path, {"model.weights.h5": parts(good)["model.weights.h5"]}),
        "holds no config.json",
    ),
    "empty": (lambda good, path: put_together(path, {}), "does not begin like"),
    "encrypted": (lambda good, path: _flagged(put_together(path, parts(good)), 8, 1), "encrypted"),
    "lzma": (lambda good, path: put_together(path, parts(good), zipfile.ZIP_LZMA), "compressed in a way"),
    "bomb in the configuration": (
        lambda good, path: put_together(path, parts(good) | {"config.json": b" " * (100 << 20)}, zipfile.ZIP_DEFLATED),
        "declares",
    ),
    "bomb in the weights": (
        lambda good, path: put_together(
            path, parts(good) | {"model.weights.h5": b"\0" * (100 << 20)}, zipfile.ZIP_DEFLATED
        ),
        "declares",
    ),
    "small bomb": (
        lambda good, path: put_together(path, parts(good) | {"config.json": b" " * (60 << 20)}, zipfile.ZIP_DEFLATED),
        "larger than 8 MiB",
    ),
    "many entries": (
        lambda good, path: put_together(path, parts(good) | {f"f{i}": b"" for i in range(20_000)}),
        "more of the kind",
    ),
    "weights that are none": (
        lambda good, path: put_together(path, parts(good) | {"model.weights.h5": b"nonsense"}),
        "not a model that Keras can load",
    ),
    "metadata that are none": (
        lambda good, path: put_together(path, parts(good) | {"metadata.json": b"nonsense"}),
        "not JSON",
    ),
}
"""What is done to an archive, and words of the refusal."""


def _pipe(good: Path, path: Path) -> Path:
    os.mkfifo(path)
    return path


def _folder(good: Path, path: Path) -> Path:
    path.mkdir()
    with zipfile.ZipFile(good) as archive:
        archive.extractall(path)
    return path


def _device(good: Path, path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def _other(good: Path, path: Path) -> Path:
    path.write_bytes(good.read_bytes())
    return path


def corpus(folder: Path, good_keras: Path, good_h5: Path) -> Iterator[tuple[str, Path, str]]:
    """Writes all hostile files; gives the name of each, its path and words of its refusal."""
    count = 0

    def fresh(suffix: str) -> Path:
        nonlocal count
        count += 1
        return folder / f"file{count}{suffix}"

    for good in (good_keras, good_h5):
        kind = good.suffix
        for name, (added, words) in LAYERS.items():
            yield f"{kind} layer: {name}", with_layer(good, fresh(kind), added), words
        yield f"{kind} layer: deep", with_layer(good, fresh(kind), deep(300)), "nested too deeply"
        for name, (text, words) in texts().items():
            yield f"{kind} text: {name}", with_config(good, fresh(kind), text), words
        for name, (change, words) in HDF5.items():
            yield f"{kind} HDF5: {name}", with_hdf5(good, fresh(kind), change), words
        content = parts(good)["model.weights.h5"] if kind == ".keras" else good.read_bytes()
        for name, (patch, words) in RECORDS.items():
            patched = bytearray(content)
            patch(patched)
            yield f"{kind} record: {name}", _with_content(good, fresh(kind), bytes(patched)), words
        for name, broken in (
            ("nothing but the mark", content[:8]),
            ("noise after the mark", content[:8] + b"\x03" * 5000),
            ("the first half", content[: len(content) // 2]),
            ("noise in the middle", content[:900] + b"\xff" * 900 + content[1800:]),
        ):
            path = _with_content(good, fresh(kind), broken)
            yield f"{kind} HDF5: {name}", path, "not a model that Keras can load"
    for name, (make, words) in ARCHIVES.items():
        yield f".keras archive: {name}", make(good_keras, fresh(".keras")), words
    yield ".h5 no configuration", with_hdf5(good_h5, fresh(".h5"), lambda f: f.attrs.pop("model_config")), "No model"
    for kind, other in ((".keras", good_h5), (".h5", good_keras), (".hdf5", good_keras)):
        yield f"{kind} by name only", _other(other, fresh(kind)), "does not begin like"
        yield f"{kind} pipe", _pipe(other, fresh(kind)), "not a file"
        yield f"{kind} device", _device(other, fresh(kind)), "not a file"
        yield f"{kind} folder", _folder(good_keras, fresh(kind)), "not a file"
    yield "another name", _other(good_h5, fresh(".net")), "must end in"
