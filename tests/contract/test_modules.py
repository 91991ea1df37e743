"""Modules are small, come from this checkout, and each pure one has a test file of its own."""

import ast
import importlib
from pathlib import Path

import pytest

from tests.contract.checkout import PACKAGES, ROOT, python_modules

LIMIT, SMELL = 500, 400
SIZES = {
    path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
    for path in python_modules((*PACKAGES, "scripts", "tests"))
}


def test_no_module_is_too_long() -> None:
    smelling = {name: lines for name, lines in sorted(SIZES.items()) if lines > SMELL}
    print(f"modules of more than {SMELL} lines, to be split some day: {smelling}")
    too_long = {name: lines for name, lines in smelling.items() if lines > LIMIT}
    assert not too_long, f"split them: a module has at most {LIMIT} lines"
    assert len(SIZES) > 20, "the count looks at no files"


def test_package_fronts_only_re_export() -> None:
    for name, lines in SIZES.items():
        if name.endswith("__init__.py"):
            assert lines <= 40, f"{name} has {lines} lines"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_comes_from_this_checkout(package: str) -> None:
    """`wire` and `gateway` are common names: another distribution's package must not stand before ours."""
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found).resolve().parent == ROOT / package


def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def is_pure_and_does_something(module: Path) -> bool:
    """A module of wire/ or of a core that has code to prove: events and effects are only shapes."""
    parts = module.relative_to(ROOT).parts
    if parts[0] != "wire" and parts[1] != "core":
        return False
    return module.name != "__init__.py" and any(isinstance(node, ast.FunctionDef) for node in ast.walk(parsed(module)))


@pytest.mark.parametrize(
    "module",
    [path for path in python_modules(PACKAGES) if is_pure_and_does_something(path)],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_pure_module_has_its_test_file(module: Path) -> None:
    folder = ROOT / "tests" / module.relative_to(ROOT).parent
    assert list(folder.glob(f"test_{module.stem}.py")) + list(folder.glob(f"test_{module.stem}_*.py")), (
        f"write {(folder / f'test_{module.stem}.py').relative_to(ROOT)}"
    )


def test_every_module_says_what_it_is() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in python_modules((*PACKAGES, "scripts", "tests"))
        if not ast.get_docstring(parsed(path))
    ]
    assert not silent, "a module begins with what lives in it"
