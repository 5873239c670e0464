"""`auditor train --dry-run`: what the recipe would take, before anything is trained."""

from __future__ import annotations

from auditor.cli.output import print_json, table
from auditor.cli.text import printable
from auditor.cli.training_watch import duration
from auditor.schema import to_dict
from auditor.training.recipe import Recipe


def print_plan(recipe: Recipe, output: str) -> int:
    """Print the plan of every stage and the assumptions behind it."""
    import torch

    from auditor.training.core.weights import check_arithmetic
    from auditor.training.planning import EFFICIENCY, matrix_rate, plan

    plans = plan(recipe)
    types = [getattr(stage.config, "dtype", "float32") for stage in recipe.stages]
    wanted = sorted({name for one, name in zip(plans, types, strict=True) if one.flops is not None})
    for name in wanted:
        check_arithmetic(name, "cuda" if torch.cuda.is_available() else "cpu")
    rates = {name: matrix_rate(getattr(torch, name)) for name in wanted}
    seconds = [None if one.flops is None else one.flops / (EFFICIENCY[name] * rates[name]) for one, name in zip(plans, types, strict=True)]
    if output == "json":
        print_json({"recipe": recipe.name, "recipe_hash": recipe.hash, "model": recipe.model, "seed": recipe.seed, "matrix_flops_per_second": rates,
                    "efficiency": {name: EFFICIENCY[name] for name in rates},
                    "stages": [{**to_dict(one), "seconds": took} for one, took in zip(plans, seconds, strict=True)]})
        return 0
    rows = [(one.stage, one.method, one.data, _count(one.examples), _count(one.topics), _count(one.steps), _count(one.tokens), _tera(one.flops),
             "–" if one.bytes is None else f"{one.bytes / 2**30:.1f} GiB", "–" if took is None else f"about {duration(took)}")
            for one, took in zip(plans, seconds, strict=True)]
    columns = ("stage", "method", "data", "examples", "topics", "steps", "tokens", "TFLOP", "peak memory", "time")
    table(f"Plan of {recipe.title}, from {recipe.model}", columns, rows)
    for one in plans:
        if one.rollouts:
            print(printable(f"{one.stage}: completions are written by the vLLM server at {one.rollouts}, whose work is not in these numbers."))
    measured = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    reached = ", ".join(f"{EFFICIENCY[name]:.0%} in {name}" for name in rates)
    if rates:
        print(f"Estimates. This machine multiplies matrices at {measured} (measured now, for a second);\ntraining is taken to reach {reached} of that.")
    print("A forward pass is 2 operations for every weight and token, a backward pass twice that (once with adapters); what rows of a batch begin with alike\n"
          "counts once, and completions are taken at full length.\n"
          "A stage without numbers works on what an earlier one makes, or asks a model. Nothing was trained or written.")
    return 0


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _tera(flops: float | None) -> str:
    return "–" if flops is None else f"{flops / 1e12:,.1f}"
