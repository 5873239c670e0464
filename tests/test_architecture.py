"""Import arrows and packaging: the two things nobody notices until they break."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = {"auditor": "auditor", "suites": "auditor.suites", "training": "auditor.training", "reports": "auditor.reports"}
BASE = {"auditor.schema", "auditor.errors"}
ITEMS = {"auditor.items", "auditor.stats"}
ALLOWED = {
    "auditor/errors.py": set(),
    "auditor/schema": set(),
    "auditor/items.py": {"auditor.errors"},
    "auditor/stats": BASE,
    "auditor/models": BASE | ITEMS,
    "auditor/store": BASE | ITEMS,
    "auditor/verdict.py": BASE | ITEMS,
    "auditor/judges": BASE | ITEMS,
    "auditor/compare": BASE | ITEMS | {"auditor.store", "auditor.verdict"},
    "auditor/engine": BASE | ITEMS | {"auditor.models", "auditor.store", "auditor.verdict", "auditor.judges", "auditor.suites"},
    "suites": BASE | ITEMS | {"auditor.judges"},
    "training": BASE | ITEMS | {"auditor.models", "auditor.judges"},
    "reports": BASE | {"auditor.store", "auditor.compare.result"},
}


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(str(node.module))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def files(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def own(place: str) -> str:
    top, _, rest = place.removesuffix(".py").partition("/")
    return MAP[top] + ("." + rest.replace("/", ".") if rest else "")


@pytest.mark.parametrize("place", sorted(ALLOWED))
def test_arrows_point_downward(place):
    assert files(place), place
    for path in files(place):
        for name in imports(path):
            assert name.split(".")[0] not in {"suites", "training", "reports"}, f"{path}: import auditor.{name} instead"
            if name.startswith("auditor.") and not (name + ".").startswith(own(place) + "."):
                assert any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED[place]), f"{path} must not import {name}"


def test_suites_do_not_import_each_other():
    """A suite may have helper files of its own, named with a leading underscore."""
    for path in files("suites"):
        assert not [name for name in imports(path) if name.startswith("auditor.suites") and not name.startswith("auditor.suites._")], path


def test_nothing_imports_the_command_line():
    for top in MAP:
        for path in files(top):
            if not path.is_relative_to(ROOT / "auditor" / "cli") and path.name != "__main__.py":
                assert not [name for name in imports(path) if name.startswith("auditor.cli")], path


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join([MAP[top], *init.parent.relative_to(ROOT / top).parts]) for top in MAP for init in (ROOT / top).rglob("__init__.py")}
    assert found == listed


def test_every_python_folder_is_a_package():
    for top in MAP:
        for path in files(top):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py and would vanish from the wheel"
