"""The one door to Keras and its tensor library: quiet, and opened only when something needs them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

from sweep.errors import InputError
from sweep.signals import whole

LIBRARIES = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""What may make Keras's tensors: as Keras calls it, and as people do."""
FOR_GPUS = {"tensorflow": "noisesweep[gpu]", "jax": "noisesweep[jax-gpu]"}
"""What to install for it to see GPUs."""

# Information and warnings as TensorFlow's C++ parts write them, and absl's remark that they come early.
_CHATTER = re.compile(rb"WARNING: All log messages before absl|[IW]\d{4} |E\d{4} .*Unable to register cu")


def import_keras() -> ModuleType:
    """Keras, on its TensorFlow backend unless the environment says otherwise, without start-up messages.

    Raises InputError where that is none of `LIBRARIES`.
    """
    name = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if name not in LIBRARIES:
        raise InputError(f"KERAS_BACKEND={name}: evaluates nothing here; valid: {', '.join(LIBRARIES)}")
    with whole(), _quiet_start(), _sharing_gpus():
        import keras

        if keras.backend.backend() != "tensorflow":  # which Keras looks for later on, less quietly
            with contextlib.suppress(ImportError):
                import tensorflow

                tensorflow.config.set_visible_devices([], "GPU")
    return keras  # type: ignore[no-any-return]


def library() -> str:
    """Of `LIBRARIES`, the one whose tensors Keras uses in this process."""
    name: str = import_keras().backend.backend()
    return name


def onednn() -> str:
    """Whether TensorFlow computes by oneDNN in this process: "on" or "off", as it says itself; "" of what does not say.

    By itself it does on processors that have instructions for neural networks; TF_ENABLE_ONEDNN_OPTS overrides that.
    """
    if library() != "tensorflow":
        return ""
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:  # another version of TensorFlow
        return ""
    return "on" if IsMklEnabled() else "off"


def use(name: str) -> None:
    """Have Keras use this one of `LIBRARIES` in this process.

    Raises InputError where it uses another already, or this one is not installed.
    """
    if name not in LIBRARIES:
        raise InputError(f"--backend {name}: is none; valid: {', '.join(LIBRARIES)}")
    if "keras" not in sys.modules:
        if find_spec(name) is None:
            raise InputError(f"--backend {name}: {LIBRARIES[name]} is not installed; pip install 'noisesweep[jax]'")
        os.environ["KERAS_BACKEND"] = name
    elif library() != name:
        raise InputError(
            f"--backend {name}: Keras uses {LIBRARIES[library()]} in this process already; begin a new one"
        )


def import_tensorflow() -> ModuleType:
    """TensorFlow, without its start-up messages; TF_CPP_MIN_LOG_LEVEL=0 in the environment shows them."""
    with whole(), _quiet_start(), _sharing_gpus():
        import tensorflow

    return tensorflow  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet_advice() -> Iterator[None]:
    """Hides what Keras and TensorFlow log below the level of an error, such as advice on every .h5 file."""

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    for logger in loggers:
        logger.addFilter(is_error)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_error)


@contextlib.contextmanager
def names_anew() -> Iterator[None]:
    """Numbers the layers that get no name as in a process that has made none before, and goes on as before afterwards.

    So a layer that a user's own code makes has one name in all processes.
    """
    import_keras()
    from keras.src.backend.common import global_state

    key = "object_name_uids"
    before = global_state.get_global_attribute(key)
    global_state.set_global_attribute(key, defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute(key, before)


def hide_gpus() -> None:
    """Let Keras use none of this machine's GPUs in this process; without effect once it does."""
    if library() == "jax":
        import jax

        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
        return
    with contextlib.suppress(RuntimeError):
        import_tensorflow().config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def _sharing_gpus() -> Iterator[None]:
    """Sees to it that a TensorFlow imported within takes what it needs of a GPU's memory, not all of it."""
    early = "tensorflow" in sys.modules
    yield
    tensorflow = sys.modules.get("tensorflow")
    if early or tensorflow is None:
        return
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        tensorflow.config.experimental.set_memory_growth(gpu, True)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hides TensorFlow's chatter while it is imported; all else written to standard error follows after.

    TensorFlow 2.21 reports a machine without CUDA before it heeds TF_CPP_MIN_LOG_LEVEL, and straight to file
    descriptor 2, so that is where it has to be caught.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules:
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # no standard error to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not _CHATTER.match(line):
                    with contextlib.suppress(OSError):
                        os.write(2, line)
