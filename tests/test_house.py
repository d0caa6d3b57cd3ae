"""The floors: a file imports only from lower ones, or from its own folder without circles; other rules of the code."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sweep

PACKAGE = Path(sweep.__file__).parent
# As docs/architecture.md draws them; where a room stands above another of its floor, by a fraction.
FLOORS = {
    name: float(floor)
    for floor, name in re.findall(
        r"^(\d\S*) +(\w+) ", (PACKAGE.parent / "docs" / "architecture.md").read_text(), re.MULTILINE
    )
} | {"__main__": 9, "__init__": 9}
# Which rooms may import a heavy library, at any depth of a file.
ONLY = {
    "ray": {"sweep/execution/ray/"},
    "tensorflow": {"sweep/engine/", "sweep/networks/", "sweep/training/"},
    "keras": {"sweep/engine/", "sweep/networks/", "sweep/training/", "sweep/bench/"},
    "matplotlib": {"sweep/reporting/figures/"},
    "pandas": {"sweep/reporting/", "sweep/storage/"},
    "torch": {"sweep/bench/"},
}


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports inside sweep are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def files() -> dict[str, str]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("sweep", *path.relative_to(PACKAGE).with_suffix("").parts))
        found[name] = path.read_text()
    return found


def violations(sources: dict[str, str]) -> list[str]:
    """Imports that go upwards, or sideways into another room; circles; heavy libraries in the wrong room."""
    problems = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = set()
        for imported in imports(source):
            path = module.replace(".", "/") + ".py"
            places = ONLY.get(imported.partition(".")[0])
            if places and not any(path.startswith(place) for place in places):
                problems.append(f"{path} imports {imported}")
            if imported in sources or f"{imported}.__init__" in sources:
                targets.add(imported if imported in sources else f"{imported}.__init__")
        for target in targets:
            here, there = room(module), room(target)
            if here not in FLOORS or there not in FLOORS:
                problems.append(f"{module} or {target} is on no floor")
            elif here == there and not {here, there} & {"__init__"}:
                continue
            elif FLOORS[there] >= FLOORS[here] and not (
                module.count(".") == target.count(".") == 1 and FLOORS[there] == FLOORS[here]
            ):
                problems.append(f"{module} (floor {FLOORS[here]}) imports {target} (floor {FLOORS[there]})")
        graph[module] = {t for t in targets if t != module and not t.endswith("__init__")}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append(f"circle: {' -> '.join(error.args[1])}")
    return problems


def test_every_file_imports_downwards_only():
    assert violations(files()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sweep.errors", "from sweep.study.study import Study"),
        ("sweep.perturb.noise", "import sweep.engine.evaluator"),
        ("sweep.study.study", "from sweep.storage import store"),
        ("sweep.execution.plan", "from sweep.reporting.run import Run"),
        ("sweep.execution.plan", "from sweep import cli"),
        ("sweep.storage.schema", "from sweep.storage.store import Store"),
        ("sweep.execution.worker", "import ray"),
        ("sweep.reporting.summary", "import matplotlib"),
        ("sweep.statistics.estimates", "def late():\n    import pandas"),
        ("sweep.perturb.base", "def late():\n    from tensorflow import math"),
    ],
)
def test_the_check_sees_an_import_that_goes_the_wrong_way(module: str, line: str):
    sources = files()
    sources[module] += f"\n{line}\n"
    assert violations(sources)


def wordless(sources: dict[str, str]) -> list[str]:
    """Public methods without a docstring, but for those that override one with it, or that a protocol describes."""
    classes: dict[str, list[ast.ClassDef]] = {}
    for source in sources.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)

    def described(node: ast.ClassDef) -> set[str]:
        own = {m.name for m in node.body if isinstance(m, ast.FunctionDef) and ast.get_docstring(m)}
        return own.union(*(described(base) for base in bases(node)))

    def bases(node: ast.ClassDef) -> list[ast.ClassDef]:
        names = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
        return [found for name in names for found in classes.get(name, ())]

    known = [node for found in classes.values() for node in found]
    protocols = [described(node) for node in known if "Protocol" in map(ast.unparse, node.bases)]
    problems = []
    for node in known:
        public = {m.name for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")}
        fields = {name.id for item in node.body for name in ast.walk(item) if isinstance(name, ast.Name)}
        implemented = (names for names in protocols if {n for n in names if n[0] != "_"} <= public | fields)
        if not node.name.startswith("_"):
            problems += [f"{node.name}.{name}" for name in public - described(node).union(*implemented)]
    return problems


def test_public_methods_say_what_they_do_once():
    assert wordless(files()) == []


def test_the_check_sees_a_method_without_words():
    base = 'class A:\n    def f(self):\n        """Say."""\n'
    inherits = "class B(A):\n    def f(self): ...\n"
    assert wordless({"a": base, "b": inherits}) == []
    assert wordless({"a": base, "b": inherits + "    def g(self): ...\n"}) == ["B.g"]
    assert wordless({"a": base, "b": "class B:\n    def f(self): ...\n"}) == ["B.f"]
    assert wordless({"a": base.replace("A:", "A(Protocol):"), "b": "class B:\n    def f(self): ...\n"}) == []


COMMANDS = ("run", "submit", "plan", "status", "cancel", "table", "report", "export")
COMMANDS += ("inspect", "verify", "train", "allocate", "tolerate", "catalogue", "schema", "bench")
LIBRARIES = {"h5py", "jinja2", "keras", "llvmlite", "matplotlib", "numpy", "pandas", "pyarrow", "pydantic"}
LIBRARIES |= {"ray", "rich", "scipy", "tensorflow"}
SAY_MODULES = """
import atexit, sys
atexit.register(lambda: print("modules:", *sys.modules))
from sweep.__main__ import main
sys.argv[0] = "sweep"
main()
"""


@pytest.mark.parametrize("arguments", ["--help", "--version", *(f"{name} --help" for name in COMMANDS)])
def test_help_is_there_without_any_library(arguments: str):
    """Each costs a tenth of a second of processor time and more; only this package and Python's own are imported."""
    command = [sys.executable, "-c", SAY_MODULES, *arguments.split()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    modules = {name.partition(".")[0] for name in said.rpartition("modules:")[2].split()}
    assert "sweep" in modules
    assert modules & LIBRARIES == set()


@pytest.mark.parametrize("name", sweep.__all__)
def test_what_the_package_offers_is_there(name: str):
    assert getattr(sweep, name).__name__ == name


def test_every_command_is_asked_for_its_help():
    source = ast.parse((PACKAGE / "parser.py").read_text())
    calls = [n for n in ast.walk(source) if isinstance(n, ast.Call) and ast.unparse(n.func) == "add"]
    assert [ast.literal_eval(call.args[0]) for call in calls] == list(COMMANDS)


def idle(sources: dict[str, str]) -> list[str]:
    """Top-level functions and classes that nothing in sweep/ uses: no name, no attribute, no word of a line of code.

    What a decorator of ours registers is used by it; names that a package hands on are not used by that.
    """
    defined, used = {}, set()
    for module, source in sources.items():
        tree = ast.parse(source)
        tops = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        plain = ("dataclass", "functools.", "contextlib.")
        tops = [n for n in tops if all(ast.unparse(d).startswith(plain) for d in n.decorator_list)]
        defined |= {node.name: module for node in tops if not node.name.startswith("__")}
        tree.body = [n for n in tree.body if not (isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute):
                used.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                used |= set(re.findall(r"\w+", node.value))
    return [f"{module}.{name}" for name, module in defined.items() if name not in used]


def test_nothing_is_there_for_the_tests_alone():
    assert idle(files()) == []


def test_the_check_sees_what_nothing_uses():
    sources = {"a": "def f(): ...\ndef g(): ...\n", "b": "from a import f, g\n__all__ = ['g']\nf()\n"}
    assert idle(sources) == ["a.g"]
    assert idle({**sources, "c": "run('-c', 'from a import g')"}) == []


def loaded(line: str) -> set[str]:
    """What a fresh process has imported after this line."""
    code = f"{line}; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name for name in result.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}


def test_statistics_need_numpy_and_scipy_alone():
    more = loaded("import sweep.statistics") - loaded("import numpy, scipy.special")
    assert {name for name in more if not name.startswith("sweep.statistics")} <= {
        "sweep",
        "sweep.errors",
        "sweep.version",
    }
    assert "sweep.statistics.estimates" in more


def test_code_names_no_folder_of_the_project():
    for module, source in files().items():
        strings = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
        code = [s for s in strings if isinstance(s, str) and "\n" not in s]
        assert not [s for s in code if s.startswith(("jobs/", "models/"))], module
