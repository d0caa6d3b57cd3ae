"""What is imported, what pyproject.toml asks for, and what code and pages say of extras: all the same."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("jobs/**/*.md"), *ROOT.glob("results/*.md")]
MODULES = {"mlflow-skinny": "mlflow", "pillow": "PIL"}  # packages that are imported under another name than their own
BASELINES = {
    "torch": ["baselines.py", "torch_network.py", "ways.py"]
}  # `sweep bench` compares with it where it happens to be installed


def module(requirement: str) -> str:
    name = re.split(r"[\[><=~! ]", requirement)[0]
    return MODULES.get(name, name.replace("-", "_"))


REQUIRED = {module(requirement) for requirement in PROJECT["dependencies"]}
OPTIONAL = {
    module(r): extra for extra, found in EXTRAS.items() if extra != "dev" for r in found if module(r) not in REQUIRED
}


def imported(path: Path) -> dict[str, bool]:
    """Modules of others that a file imports, and whether it expects each import to fail."""
    found: dict[str, bool] = {}

    def visit(node: ast.AST, guarded: bool) -> None:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "sweep":
                found[top] = found.get(top, True) and guarded
        for child in ast.iter_child_nodes(node):
            tried = isinstance(node, ast.Try) and child in node.body
            caught = tried and any(re.search("ImportError|ModuleNotFound", ast.unparse(h)) for h in node.handlers)
            visit(child, guarded or caught)

    visit(ast.parse(path.read_text()), False)
    return found


FILES = sorted((ROOT / "sweep").rglob("*.py"))


def test_what_is_imported_is_required_or_guarded_and_in_an_extra():
    for path in FILES:
        for name, guarded in imported(path).items():
            where = f"{path.relative_to(ROOT)} imports {name}"
            if name in REQUIRED:
                assert not guarded, f"{where} as if it might be missing, and it is required"
            else:
                assert name in OPTIONAL or path.name in BASELINES.get(name, ()), f"{where}, which is in no list"


def test_what_is_required_is_imported():
    assert {name for path in FILES for name in imported(path)} & REQUIRED == REQUIRED


@pytest.mark.slow
def test_what_needs_an_extra_says_which_one():
    """Object stores, JAX and MLflow: one line names what to install (see the tests of each)."""
    source = "".join(path.read_text() for path in FILES)
    needed = {extra for name, extra in OPTIONAL.items() if any(name in imported(path) for path in FILES)}
    assert needed == {"cloud", "jax", "mlflow"}
    for extra in needed | {"gpu"}:
        assert f"noisesweep[{extra}]" in source


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_extras_that_are_named_exist(path: Path):
    for named in re.findall(r"noisesweep\[([\w,]+)\]|extra `(\w+)`", path.read_text()):
        assert set("".join(named).split(",")) <= EXTRAS.keys()


def test_the_readme_names_every_extra():
    readme = (ROOT / "README.md").read_text()
    for extra in EXTRAS.keys() - {"dev"}:
        assert f"`{extra}`" in readme, extra


def test_the_tests_get_what_they_test():
    """Every extra but the GPU libraries and MLflow, whose tests have stand-ins, and the lowest versions agree."""
    everywhere = {}
    for requirement in [*PROJECT["dependencies"], *(found for extra in EXTRAS.values() for found in extra)]:
        name, _, version = requirement.partition(">=")
        assert everywhere.setdefault(module(name), version) == version, requirement
    for extra in ("cloud", "notebook"):
        assert set(EXTRAS[extra]) <= set(EXTRAS["dev"])


def test_nothing_is_called_optional_that_is_required():
    for path in [*FILES, *PAGES]:
        text = path.read_text()
        for name in REQUIRED:
            words = rf"(without|if|unless) `?{re.escape(name)}`?( is)?( not)? installed|optional[^.\n]*\b{name}\b"
            said = re.search(words, text)
            assert not said, f"{path.relative_to(ROOT)}: {said and said[0]}"
