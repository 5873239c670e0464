"""A model fine-tuned into a labeller, on the very question that it will be asked, and measured on topics it was not trained on.

Pairwise: cross-entropy on the option tokens " A" and " B" of the audit's question (auditor.judges.pairwise), each pair shown in both orders, so
that a preference for a place gains nothing. Rating: Bradley–Terry on the difference of the expected ratings 1 to 9 of both
answers, the question of d-RLAIF (Lee et al. 2023, arXiv 2309.00267, section 2.3.2). The tuning itself is this project's; Lee et al. prompt a
large model as it is, which a small one cannot match.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import logsigmoid

from auditor.errors import InputError
from auditor.judges.pairwise import OPTIONS, pairwise_requests
from auditor.schema import Preference, Request
from auditor.training.core.asking import RATINGS, Labeller, Manner, expected_ratings, gold_comparison, rating_request
from auditor.training.core.batch import Encoded, can_share, collate
from auditor.training.core.checkpoint import write_json
from auditor.training.core.config import Optimisation, check_from_0
from auditor.training.core.constitution import Principle, load_constitution
from auditor.training.core.loop import Task, fit
from auditor.training.core.nets import OptionNet, PolicyNet
from auditor.training.core.noncontextual import Fits, addition_notes, context_notes, with_noncontextual
from auditor.training.core.overlap import learned_from
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.validation import measure_comparisons, measure_rated_context, measure_ratings
from auditor.training.core.weights import policy_net, save_policy
from auditor.training.data import data_hash, load_preferences, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Optimisation):
    """``data``: gold pairs, see docs/training_data.md; at most ``limit`` of them (0: all), a share ``held_out`` of the topics kept to measure on.

    ``ask``: the questions that are trained: pairwise (for rlaif and as a judge), rating (for d-rlaif, and for rlaif with ask = rating), or both.
    ``constitution`` (a TOML file or shipped:constitution) asks every pair about a principle that speaks to its kind, too, or rates by its
    standard. ``mass_weight`` weighs the cross-entropy from all nine digits alike in the rating loss, so that the reply stays a digit.
    ``measure_before`` measures the model before its training as well. ``noncontextual`` more pairs are made of each: its better answer over an answer to
    another topic's question (Liu et al. 2024, arXiv 2409.13156), so that answering the question is part of what is good. With a constitution these
    are asked about a principle of the pair's kind too, though an answer beside the question may meet it.
    """

    data: str = "shipped:preferences"
    limit: int = 0
    held_out: float = 0.2
    ask: Literal["pairwise", "rating", "both"] = "pairwise"
    constitution: str = ""
    mass_weight: float = 0.1
    noncontextual: int = 0
    measure_before: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Two prompts that belong together: a pair in both orders (pairwise), or its two answers by themselves (rating).

    ``label`` is the probability that the answer shown first in the first prompt, or rated in it, is better. Both orders are in one step, so that
    the pull towards either letter cancels within it.
    """

    id: str
    asked: Literal["pairwise", "rating"]
    prompts: tuple[tuple[int, ...], tuple[int, ...]]
    label: float

    @property
    def length(self) -> int:
        """Padded tokens that it takes in a batch of its own."""
        return 2 * max(map(len, self.prompts))


def pairwise_loss(first_P2: torch.Tensor, second_P2: torch.Tensor, labels_P: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss (P,): cross-entropy of the soft label, −y·log p(A) − (1 − y)·log p(B), averaged over both orders (the second has y for B).

    ``first_P2`` and ``second_P2`` are log-probabilities of " A" and " B" among the whole vocabulary.
    """
    in_first = -labels_P * first_P2[:, 0] - (1 - labels_P) * first_P2[:, 1]
    in_second = -labels_P * second_P2[:, 1] - (1 - labels_P) * second_P2[:, 0]
    # The sign of this sum of log-odds stands for the soft label of both orders.
    lean = (first_P2[:, 0] - first_P2[:, 1] + second_P2[:, 1] - second_P2[:, 0]).detach()
    mass = torch.stack([first_P2, second_P2]).detach().exp().sum(-1).mean(0)
    return (in_first + in_second) / 2, {"accuracy": ((lean > 0) == (labels_P > 0.5)).float().sum(), "option_mass": mass.sum()}


def rating_loss(better_P9: torch.Tensor, worse_P9: torch.Tensor, labels_P: torch.Tensor, mass_weight: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss (P,): −y·log σ(d) − (1 − y)·log σ(−d), d the difference of expected ratings (1 to 9), plus ``mass_weight`` · mean −log p(digit).

    ``better_P9`` and ``worse_P9`` are log-probabilities of the nine digits among the whole vocabulary. All digits are pulled up alike: −log of
    their sum would pull the likeliest most, until it alone is said of every answer and the ratings have no gradient left.
    """
    gap = expected_ratings(better_P9) - expected_ratings(worse_P9)
    digits_P9 = (better_P9 + worse_P9) / 2
    losses = -labels_P * logsigmoid(gap) - (1 - labels_P) * logsigmoid(-gap) - mass_weight * digits_P9.mean(-1)
    right = ((gap > 0) == (labels_P > 0.5)).float()
    mass = torch.stack([better_P9, worse_P9]).detach().exp().sum(-1).mean(0)
    return losses, {"accuracy": right.sum(), "option_mass": mass.sum()}


def examples_of(engine: Any, preferences: Sequence[Preference], config: Config, seed: int) -> list[Example]:
    """A pairwise example of each pair, another where a principle speaks to it, and one of its ratings, as ``config.ask`` says.

    Raises InputError for a question that is longer than ``max_length`` or the context.
    """
    limit, drawn = min(config.max_length, engine.context), (_principles(config), seed)
    found = [example for item in preferences for example in _examples(engine, item, config, drawn)]
    for example in found:
        longest = max(map(len, example.prompts))
        if longest > limit:
            raise InputError(f"pair {example.id!r} makes a question of {longest} tokens and the limit is {limit} (max_length, or the "
                             "model's context); shorten it, leave it out, or raise max_length")
    return found


def fitting(engine: Any, config: Config, seed: int) -> Fits:
    """Whether the questions about a pair are short enough."""
    limit, drawn = min(config.max_length, engine.context), (_principles(config), seed)
    return lambda item: all(len(prompt) <= limit for example in _examples(engine, item, config, drawn) for prompt in example.prompts)


def _principles(config: Config) -> Sequence[Principle]:
    return load_constitution(config.constitution) if config.constitution else []


def _examples(engine: Any, item: Preference, config: Config, drawn: tuple[Sequence[Principle], int]) -> list[Example]:
    return [*(_compared(engine, item, drawn) if config.ask != "rating" else ()), *(_rated(engine, item, drawn) if config.ask != "pairwise" else ())]


def _compared(engine: Any, item: Preference, drawn: tuple[Sequence[Principle], int]) -> list[Example]:
    comparisons = [pairwise_requests(item.prompt, item.chosen, item.rejected)]
    asked = gold_comparison(item, *drawn) if drawn[0] else None
    if asked is not None:
        comparisons.append(pairwise_requests(item.prompt, item.chosen, item.rejected, asked.question))
    return [Example(id=item.id, asked="pairwise", prompts=(_ids(engine, first), _ids(engine, second)), label=item.label) for first, second in comparisons]


def _rated(engine: Any, item: Preference, drawn: tuple[Sequence[Principle], int]) -> list[Example]:
    asked = gold_comparison(item, *drawn) if drawn[0] else None
    standards = ["", *([asked.standard] if asked is not None and asked.standard else [])]
    pairs = [tuple(_ids(engine, rating_request(item.prompt, text, standard)) for text in (item.chosen, item.rejected)) for standard in standards]
    return [Example(id=item.id, asked="rating", prompts=(better, worse), label=item.label) for better, worse in pairs]


def _ids(engine: Any, request: Request) -> tuple[int, ...]:
    return tuple(engine.prompt_ids(request))


def option_tokens(engine: Any, item: Preference) -> torch.Tensor:
    """Token ids (11,) of " A", " B" and the digits 1 to 9 where they are asked for. Raises InputError for a tokenizer that cuts one of them up."""
    compared, rated = pairwise_requests(item.prompt, item.chosen, item.rejected)[0], rating_request(item.prompt, item.chosen)
    found = [(text, engine.encoder.continuation(request.messages, text)) for request, texts in ((compared, OPTIONS), (rated, RATINGS)) for text in texts]
    cut = next((text for text, ids in found if len(ids) != 1), None)
    if cut is not None:
        raise InputError(f"{engine.spec.uri}: its tokenizer makes several tokens of the option {cut!r}; pass another model as labeller")
    return torch.tensor([ids[0] for _, ids in found], device=engine.device)


def check(config: Config, place: str) -> None:
    """Raise InputError where a setting cannot be right."""
    if not 0 < config.held_out < 1:
        raise InputError(f"{place}: held_out is {config.held_out}; pass a share between 0 and 1: a labeller that was not measured may not label")
    check_from_0(config, ("limit", "noncontextual", "mass_weight"), place)


def train(config: Config, run: StageRun) -> Outcome:
    """Fine-tune a model into a labeller, measure it on held-out topics, and write ``model`` in the stage's folder."""
    check(config, f"stage {run.name!r}")
    start = run.find(config.model, "policy")
    engine = run.open(start)
    preferences = load_preferences(run.find(config.data, "preferences"), limit=config.limit or None, seed=run.seed)
    train_part, held_part = split(preferences, config.held_out, run.seed)
    shown = with_noncontextual(train_part, config.noncontextual, run.seed, f"stage {run.name!r}", fitting(engine, config, run.seed))
    examples, tokens = examples_of(engine, shown, config, run.seed), option_tokens(engine, preferences[0])
    before = _before(config, run, engine, held_part)
    model = policy_net(engine, config, run.seed).model
    share = can_share(engine.model.config)

    def loss(module: Any, rows: Sequence[Example]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return _loss(module, rows, (tokens, share), config.mass_weight)

    stepper = fit(Task(net=OptionNet(model), examples=examples, loss=loss, length=lambda row: row.length), config, run)
    measured = _measured(config, run, engine, held_part, context=True)
    target = run.folder / "model"
    if run.world.is_main:
        save_policy(engine, PolicyNet(model), start, target)
    run.world.wait()
    first = measured["rating" if config.ask == "rating" else "pairwise"]
    return Outcome(kind="labeller", path=target, steps=stepper.done, data_hashes={config.data: data_hash(preferences)},
                   data_sketches=(learned_from(preferences, train_part),),
                   measured={"accuracy": first["accuracy"], "after": measured, "before": before, "trained_on": len(train_part)},
                   notes=(*addition_notes(train_part, shown, config.noncontextual), *context_notes(measured.get("rating", {}))))


def _loss(module: Any, rows: Sequence[Example], asked: tuple[torch.Tensor, bool], mass_weight: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sum of the losses of pairwise and rating examples, from one forward pass over all their prompts."""
    tokens, share = asked
    prompts = [row.prompts[side] for side in (0, 1) for row in rows]
    batch = collate([Encoded(id="", prompt=prompt, completion=()) for prompt in prompts], tokens.device, share=share)
    first, second = module(batch, tokens).split(len(rows))
    labels = torch.tensor([row.label for row in rows], device=tokens.device)
    compared = torch.tensor([row.asked == "pairwise" for row in rows], device=tokens.device)
    letters, digits = slice(0, len(OPTIONS)), slice(len(OPTIONS), None)
    parts = [pairwise_loss(first[compared, letters], second[compared, letters], labels[compared]),
             rating_loss(first[~compared, digits], second[~compared, digits], labels[~compared], mass_weight)]
    return parts[0][0].sum() + parts[1][0].sum(), {name: parts[0][1][name] + parts[1][1][name] for name in parts[0][1]}


def _before(config: Config, run: StageRun, engine: Any, held: Sequence[Preference]) -> dict[str, Any]:
    """What the model says before its training; a resumed run has it from the run that was stopped."""
    path = run.folder / "before.json"
    if not config.measure_before:
        return {}
    if run.resume and path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    found = _measured(config, run, engine, held)
    if run.world.is_main:
        write_json(path, found)
    return found


def _measured(config: Config, run: StageRun, engine: Any, held: Sequence[Preference], *, context: bool = False) -> dict[str, Any]:
    """What the engine's weights, as they are now, say of held-out pairs; with ``context`` also whether its ratings follow from the question."""
    training = engine.model.training
    engine.model.eval()
    labeller = Labeller(engine)
    found: dict[str, Any] = {}
    run.reporter.say(f"{run.name}: asking about {len(held)} held-out pairs")
    if config.ask != "rating":
        found["pairwise"] = measure_comparisons(labeller, held)
        if config.constitution:
            found["by_principle"] = measure_comparisons(labeller, held, load_constitution(config.constitution), run.seed)
    if config.ask != "pairwise":
        found["rating"] = measure_ratings(labeller, held) | (measure_rated_context(labeller, held, run.seed) if context else {})
        if config.constitution:
            labeller.manner = Manner(ask="rating")
            found["rating_by_principle"] = measure_comparisons(labeller, held, load_constitution(config.constitution), run.seed)
    engine.model.train(training)
    return found
