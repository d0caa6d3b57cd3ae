"""The forms in which people keep networks: those that are read, and for the others what to do instead."""

from __future__ import annotations

from pathlib import Path

from sweep.networks.checks.safety import SUFFIXES

WEIGHTS = ".weights.h5"
_COPIED = (
    "build the same network in Keras, set its weights from there (a kernel of Dense is the transpose of Linear's, "
    'one of Conv2D is weight.permute(2, 3, 1, 0)), and model.save("net.keras")'
)
_OTHERS = {
    ".tflite": "is a TFLite file, whose network is compiled; give the Keras network that it was converted from",
    ".onnx": f"is an ONNX file; {_COPIED}",
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), f"holds weights of PyTorch or the like; {_COPIED}"),
    ".pb": "is a TensorFlow graph; give the Keras network that it was exported from, saved with "
    'model.save("net.keras")',
    **dict.fromkeys(
        (".pkl", ".pickle", ".joblib"), 'is a pickle, which can run any code; save with model.save("net.keras")'
    ),
    ".json": "is an architecture without weights; keras.models.model_from_json, load_weights, and "
    'model.save("net.keras") make one file of both',
    **dict.fromkeys((".npz", ".npy"), "holds arrays; set them in the Keras network and save that: model.save(…)"),
}
_SAVED_MODEL = (
    'is a SavedModel; `pip install tf_keras` and `import tf_keras; tf_keras.models.load_model("{0}").save("{0}.h5")` '
    "make a file of it, unless it was exported for serving"
)


def suffix_of(path: Path) -> str:
    """The end of a file's name by which Keras tells its form."""
    return WEIGHTS if path.name.lower().endswith(WEIGHTS) else path.suffix


def refusal(path: Path) -> str | None:
    """Why a network in this form cannot be read, and what to do instead; None where it may be one that is."""
    kinds = " or ".join(SUFFIXES)
    if path.is_dir():
        made = (path / "saved_model.pb").exists() or (path / "keras_metadata.pb").exists()
        return _SAVED_MODEL.format(path.name) if made else f"is a folder, not a file; give one that ends in {kinds}"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return None
    return _OTHERS.get(suffix, f"not a Keras model by its name; it must end in {kinds}")
