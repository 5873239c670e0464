"""Recipes: a TOML file with a list of stages, each naming its method and that method's settings."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from auditor.errors import InputError, UnknownNameError
from auditor.schema import sha256_json, to_dict
from auditor.training.core.config import DTYPES, Optimisation, build, check_optimisation

RECIPES = Path(__file__).parent / "recipes"
NO_METHODS = ("core", "recipe", "pipeline", "planning", "lineage", "merging", "data", "formats", "sources", "hub")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# May change between a run and its resumption: they move no weight.
FREE = ("on_divergence", "save_every", "keep", "mismatch_limit", "rollout_concurrency", "rollout_timeout")
SERVED = ("rollout_server", "importance", "importance_cap")  # decide something only where a server writes the rollouts, and then not where it stands
FROM_STAGES = ("model", "data", "mix", "labeller", "uri", "against")  # settings that may name what an earlier stage made
FROM_FILES = ("prompts", "gold", "constitution")
KEYS = ("title", "about", "model", "seed", "dtype", "stage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a recipe: ``method`` is the name of a file in this package, ``config`` that method's Config."""

    name: str
    method: str
    config: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``model`` is where the first stage starts; ``seed`` decides every draw."""

    name: str
    title: str
    model: str
    seed: int
    stages: tuple[Stage, ...]
    about: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of everything that decides the result, defaults included."""
        stages = to_dict(self.stages)
        for stage in stages:
            settings = {key: value for key, value in stage["config"].items() if key not in FREE}
            served = {key: settings.pop(key) for key in SERVED if key in settings}
            stage["config"] = settings | ({**served, "rollout_server": True} if served.get("rollout_server") else {})
        return sha256_json({"model": self.model, "seed": self.seed, "stages": stages})


def shipped() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def methods() -> list[str]:
    """Names of the training methods: the modules of this package that have a Config and a train function."""
    import auditor.training

    return sorted(item.name for item in pkgutil.iter_modules(auditor.training.__path__) if item.name not in NO_METHODS and not item.name.startswith("_"))


def method(name: str) -> ModuleType:
    """The module of a training method. Raises UnknownNameError for an unknown one."""
    if name not in methods():
        raise UnknownNameError("training method", name, methods())
    return importlib.import_module(f"auditor.training.{name}")


def read_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a TOML file by path, with ``key=value`` changes applied.

    A change is ``seed=1``, ``model=./checkpoint``, or ``STAGE.key=value`` for a setting of one stage; values are TOML, bare words are strings.
    ``dtype`` is that of every stage that trains and names none of its own.
    Raises UnknownNameError for an unknown recipe, stage, method or key (naming the nearest), InputError for anything malformed.
    """
    table = _table(name)
    for change in changes:
        _change(table, change)
    for key in table:
        if key not in KEYS:
            raise UnknownNameError(f"key in recipe {name!r}", key, KEYS)
    stages = table.get("stage")
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise InputError(f"recipe {name!r} has no stages; add at least one [[stage]] with a method")
    shared = {"dtype": table["dtype"]} if "dtype" in table else {}
    if shared and shared["dtype"] not in DTYPES:
        raise InputError(f"recipe {name!r}: dtype is {shared['dtype']!r}; pass one of {', '.join(DTYPES)}")
    built = tuple(_stage(stage, name, shared) for stage in stages)
    names = [stage.name for stage in built]
    twice = next((item for item in names if names.count(item) > 1), None)
    if twice:
        raise InputError(f"recipe {name!r}: two stages are called {twice!r}; give each its own name")
    _check_stages(built)
    seed, model = table.get("seed", 0), table.get("model", "smollm2")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"recipe {name!r}: seed is {seed!r}; pass a whole number from 0 to below 2^63")
    if not isinstance(model, str) or not model:
        raise InputError(f"recipe {name!r}: model is {model!r}; pass a model's name or folder")
    return Recipe(name=Path(name).stem, title=str(table.get("title", Path(name).stem)), about=str(table.get("about", "")), model=model, seed=seed, stages=built)


def _check_stages(stages: Sequence[Stage]) -> None:
    """Raise where a setting names a stage that is not an earlier one, or must be a file: the stages before it may train for hours."""
    earlier: list[str] = []
    for stage in stages:
        tables = [to_dict(stage.config), *(to_dict(part) for part in getattr(stage.config, "reward", ()))]
        for key, value in (item for table in tables for item in table.items()):
            if key in (*FROM_STAGES, *FROM_FILES) and isinstance(value, str) and value.startswith("stage:"):
                if key in FROM_FILES:
                    raise InputError(f"stage {stage.name!r}: {key} is {value!r}; pass a file or a shipped set: no stage makes what {key} takes")
                if value.removeprefix("stage:") not in earlier:
                    raise UnknownNameError(f"earlier stage in stage {stage.name!r}: {key}", value.removeprefix("stage:"), earlier)
        earlier.append(stage.name)


def _table(name: str) -> dict[str, Any]:
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise InputError(f"no recipe at {name!r}; pass a TOML file, or one of: {', '.join(shipped())}")
        raise UnknownNameError("recipe", name, shipped())
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid TOML: {error}") from None


def _change(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {change!r}: write key=value, for instance seed=1 or ppo.lr=1e-5")
    place, _, last = key.strip().rpartition(".")
    target: Any = table
    if place:
        listed = table.get("stage")
        names = {_stage_name(stage): stage for stage in listed if isinstance(stage, dict)} if isinstance(listed, list) else {}
        if place not in names:
            raise UnknownNameError("stage", place, names)
        target = names[place]
    target[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _stage_name(table: Mapping[str, Any]) -> str:
    return str(table.get("name") or table.get("method") or "")


def _stage(table: Mapping[str, Any], recipe: str, shared: Mapping[str, Any]) -> Stage:
    """``shared``: settings of every stage that trains and has none of its own."""
    name = _stage_name(table)
    if not table.get("method"):
        raise InputError(f"recipe {recipe!r}: a stage has no method; known: {', '.join(methods())}")
    if not NAME.fullmatch(name):
        raise InputError(f"recipe {recipe!r}: {name!r} is no name for a stage: it names a folder; pass letters, digits, dots, dashes and underscores")
    place = f"stage {name!r}"
    kind = method(str(table["method"])).Config
    given = {key: value for key, value in table.items() if key not in ("name", "method")}
    config = build(kind, {**shared, **given} if issubclass(kind, Optimisation) else given, place)
    if isinstance(config, Optimisation):
        check_optimisation(config, place)
    own = getattr(method(str(table["method"])), "check", None)
    if own is not None:  # before earlier stages have trained for hours
        own(config, place)
    return Stage(name=name, method=str(table["method"]), config=config)
