"""Finding suites. A suite's name is its file's name; a broken file is an error, never skipped in silence."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from auditor.errors import EngineError, UnknownNameError
from auditor.schema import Suite

ORDER = ("sycophancy", "refusal", "confidence", "verbosity", "diversity", "overoptimization", "judge_agreement")


def suite_names() -> list[str]:
    """All shipped suites, those a reader wants first in front."""
    import auditor.suites

    found = {module.name for module in pkgutil.iter_modules(auditor.suites.__path__) if not module.name.startswith("_")}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def load_suite(name: str) -> Suite:
    """The suite of that name. Raises UnknownNameError naming the nearest."""
    if name not in suite_names():
        raise UnknownNameError("suite", name, suite_names())
    module = importlib.import_module(f"auditor.suites.{name}")
    suite = getattr(module, "SUITE", None)
    if not isinstance(suite, Suite):
        raise EngineError(f"{module.__file__} defines no SUITE; see 'Adding a suite' in CONTRIBUTING.md")
    return suite


def load_suites(names: Sequence[str]) -> list[Suite]:
    """The named suites without repetition, or all of them."""
    return [load_suite(name) for name in dict.fromkeys(names or suite_names())]
