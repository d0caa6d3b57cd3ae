"""Code of a user's own that networks need: files with layers and functions, and with functions that build networks."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sweep.errors import InputError
from sweep.files import reason
from sweep.networks.backend import import_keras, quiet_advice
from sweep.scripts import Script

if TYPE_CHECKING:
    import keras

_OTHERS = ("keras.", "tensorflow.", "builtins")  # whose classes a file imports, and does not bring
_modules: dict[str, ModuleType] = {}  # by digest


@dataclass(frozen=True)
class Code:
    """What is run before a network is loaded; it travels to workers with the network's file.

    Attributes:
        scripts: files with the layers and functions that it may name.
        build: a file, and the function in it that makes the network, of which its own file has the weights alone.
    """

    scripts: tuple[Script, ...] = ()
    build: tuple[Script, str] | None = None

    def __bool__(self) -> bool:
        return bool(self.scripts or self.build)

    def digest(self, of_file: str) -> str:
        """What tells a network from others, in hex: the digest of its file where that says all of it."""
        if not self:
            return of_file
        function = [self.build[0].digest, self.build[1]] if self.build else []
        parts = [of_file, *(script.digest for script in self.scripts), *function]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def objects(self) -> dict[str, Any]:
        """The layers and functions of its files, by every name that Keras has for them; the files are run once.

        Raises:
            InputError: a file fails, brings nothing, or what another one brings, too.
        """
        found: dict[str, Any] = {}
        for script in self.scripts:
            own = dict(_objects_in(module_of(script)))
            if not own:
                raise InputError(f"{script.path}: brings no layer and no function of its own")
            if twice := found.keys() & own.keys():
                raise InputError(f"{script.path}: brings {', '.join(sorted(twice))}, as another file does")
            found |= own
        return found

    def built(self) -> keras.Model:
        """The network as its function makes it, without its weights.

        Raises:
            InputError: there is no such function, it fails, or what it gives is no Keras model.
        """
        assert self.build is not None
        script, name = self.build
        kind = import_keras().Model
        function = getattr(module_of(script), name, None)
        if not callable(function):
            raise InputError(f"{script.path}: has no function {name}")
        try:
            with quiet_advice():
                model = function()
        except Exception as error:
            raise InputError(f"{script.path}: {name}() fails: {type(error).__name__}: {reason(error)}") from error
        if not isinstance(model, kind):
            raise InputError(f"{script.path}: {name}() gives a {type(model).__name__}, no keras.Model")
        return model


NONE = Code()


def module_of(script: Script) -> ModuleType:
    """What the file makes, run once a process; one that has run as a plugin is not run again."""
    if script.digest not in _modules:
        import_keras()
        _modules[script.digest] = sys.modules.get(script.module) or script.run()
    return _modules[script.digest]


def _objects_in(module: ModuleType) -> Iterator[tuple[str, Any]]:
    keras = import_keras()
    kinds = (keras.Layer, keras.Initializer, keras.Regularizer, keras.constraints.Constraint)
    for name, value in vars(module).items():
        kind = inspect.isclass(value) and issubclass(value, kinds) and not value.__module__.startswith(_OTHERS)
        function = inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
        if kind or function:
            yield value.__name__, value
            yield keras.saving.get_registered_name(value), value
