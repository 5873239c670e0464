"""Batches, networks, steps: what is computed does not depend on padding, on how a batch is cut, or on where a run was interrupted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from auditor.errors import InputError, TrainingError, UnknownNameError
from auditor.models.decode import Clock, option_logprobs
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import user
from auditor.training.core import nets
from auditor.training.core.batch import Encoded, Encoder, can_share, collate, micro_batches, order
from auditor.training.core.checkpoint import Checkpoints
from auditor.training.core.config import Optimisation, build
from auditor.training.core.guard import Guard
from auditor.training.core.journal import StepLog, read_steps
from auditor.training.core.loop import Task, batch_at, fit, steps_of, train_step
from auditor.training.core.nets import PolicyNet
from auditor.training.core.optimise import Stepper, rate
from auditor.training.core.rollout import EngineSampler, Sampling, ended
from auditor.training.core.stage import StageRun
from auditor.training.core.weights import policy_net, scalar_net
from auditor.training.core.world import World
from auditor.training.sft import sft_loss


@pytest.fixture
def engine(tiny_checkpoint):
    return open_model(str(tiny_checkpoint), EngineOptions(pack=False))


@pytest.fixture
def run(tmp_path):
    return StageRun(name="try", folder=tmp_path, world=World())


def rows(engine, count=6):
    encoder = Encoder(engine, 256)
    return [encoder.pair(f"r{i}", [user("say " + "fox " * (i + 1))], "the lazy dog " * (1 + (i * 5) % 4)) for i in range(count)]


def task(engine, config):
    net = policy_net(engine, config, 0)

    def loss(module, group):
        batch = collate(group)
        losses, _ = sft_loss(module(batch)[0], batch.completion_mask)
        return losses.sum(), {"tokens": batch.completion_mask.sum()}

    return Task(net=net, examples=rows(engine, 12), loss=loss, length=lambda row: row.length, weight=lambda row: float(len(row.completion)))


def test_trained_log_probabilities_are_those_of_the_audit_engine(engine):
    """Right padding here, left padding and a cache there."""
    given = rows(engine)
    ours, _ = PolicyNet(engine.model)(collate(given))
    theirs = option_logprobs(engine.model, [list(row.prompt) for row in given], [[list(row.completion)] for row in given], Clock())
    for index, row in enumerate(given):
        assert ours[index, :len(row.completion)].tolist() == pytest.approx(theirs[index][0], abs=1e-4)
        assert ours[index, len(row.completion):].abs().sum() == 0


def test_padding_changes_no_row(engine):
    given = rows(engine)
    together = PolicyNet(engine.model)(collate(given), entropy=True)
    for index, row in enumerate(given):
        alone = PolicyNet(engine.model)(collate([row]), entropy=True)
        for padded, single in zip(together, alone, strict=True):
            torch.testing.assert_close(padded[index, :len(row.completion)], single[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [6, 40])
def test_sharing_beginnings_changes_no_row(engine, count):
    """Both sides of pairs and rows of one beginning, computed as a tree, against each row alone."""
    encoder = Encoder(engine, 256)
    given = [encoder.pair(f"{i}", [user("say fox " + "dog " * (i // 2 % 5))], ["the lazy", "the lazy dog over", "six"][i % 3]) for i in range(count)]
    batch = collate(given, share=True)
    assert can_share(engine.model.config)
    assert batch.ids.shape[0] == 1
    assert batch.tokens < 0.7 * collate(given).tokens
    net, scalar = PolicyNet(engine.model), scalar_net(engine, Optimisation(), 0, heads=2)
    with torch.no_grad():
        torch.testing.assert_close(net(batch, entropy=True)[0], net(collate(given))[0], rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(scalar(batch), scalar(collate(given)), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(scalar(batch, every_token=True), scalar(collate(given), every_token=True), rtol=1e-4, atol=2e-5)


def test_sharing_gives_the_same_gradients(engine):
    given = [Encoder(engine, 256).pair(f"{i}", [user("say fox")], "the lazy " * (i + 1)) for i in range(4)]
    gradients = []
    for share in (False, True):
        net = policy_net(open_model(engine.spec.uri, EngineOptions(pack=False)), Optimisation(), 0)
        net(collate(given, share=share))[0].sum().backward()
        gradients.append({name: value.grad for name, value in net.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-3, atol=1e-4 * float(value.abs().max()))


def test_the_end_token_keeps_its_loss_though_it_is_the_padding_token(engine):
    assert engine.tokenizer.pad_token_id == engine.tokenizer.eos_token_id
    row = Encoder(engine, 256).pair("x", [user("fox")], "dog")
    assert row.completion[-1] == engine.tokenizer.eos_token_id
    logprobs, _ = PolicyNet(engine.model)(collate([row, rows(engine)[5]]))
    assert logprobs[0, len(row.completion) - 1] < 0
    assert collate([row]).completion_mask.sum() == len(row.completion)


def test_temperature_divides_the_logits(engine):
    row = rows(engine)[0]
    with torch.no_grad():
        logits = engine.model(torch.tensor([[*row.prompt, *row.completion]])).logits[0, len(row.prompt) - 1:-1]
    expected = torch.log_softmax(logits / 0.7, -1).gather(-1, torch.tensor(row.completion)[:, None])[:, 0]
    torch.testing.assert_close(PolicyNet(engine.model)(collate([row]), 0.7)[0][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_log_probabilities_and_their_gradient_are_those_of_plain_operations(dtype, temperature):
    generator = torch.Generator().manual_seed(0)
    count = 2 * nets.ROWS + 7
    given = torch.randn((count, 50), generator=generator).mul(4).to(dtype)
    tokens, weights = torch.randint(50, (count,), generator=generator), torch.randn(count, generator=generator)
    plain, ours = given.clone().requires_grad_(), given.clone().requires_grad_()
    expected = torch.log_softmax(plain.float() / temperature, -1)[torch.arange(count), tokens]
    found = nets._Logprobs.apply(ours, tokens, temperature)
    torch.testing.assert_close(found, expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad, plain.grad)
    assert nets._Logprobs.apply(ours[:0], tokens[:0], temperature).shape == (0,)


def test_scores_are_read_at_the_last_real_token(engine):
    net = scalar_net(engine, Optimisation(), 0, heads=2)
    given = rows(engine)
    together = net(collate(given))
    assert together.shape == (6, 2)
    for index, row in enumerate(given):
        torch.testing.assert_close(together[index], net(collate([row]))[0], rtol=1e-4, atol=1e-5)
    extended = Encoded(id="y", prompt=given[0].prompt, completion=(*given[0].completion, given[0].completion[0]))
    assert (net(collate([extended]))[0] - together[0]).abs().max() > 1e-4


def test_reward_heads_start_with_the_standard_deviation_of_the_plan(engine):
    net = scalar_net(engine, Optimisation(), 0, heads=200)
    assert float(net.head.weight.detach().std()) == pytest.approx(1 / math.sqrt(49), rel=0.05)
    assert float(net.head.bias.detach().abs().sum()) == 0
    assert not scalar_net(engine, Optimisation(), 0, zero=True)(collate(rows(engine))).any()


@pytest.mark.parametrize("lora", [0, 4])
def test_cutting_a_batch_up_changes_no_gradient(engine, run, lora):
    results = []
    for budget in (10_000, 60):
        config = Optimisation(lora_rank=lora, micro_tokens=budget, lr=1e-3, max_grad_norm=1e9)
        fresh = open_model(engine.spec.uri, EngineOptions(pack=False))
        made = task(fresh, config)
        stepper = Stepper(made.net, config, 1, run.world)
        values = train_step(made, made.examples, stepper)
        results.append((values["loss"], values["gradient_norm"]))
    assert len(micro_batches(rows(engine, 12), lambda row: row.length, 60)) > 2
    assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.parametrize("lora", [0, 4])
def test_checkpointing_activations_changes_no_gradient(engine, run, lora):
    results = []
    for wanted in (False, True):
        config = Optimisation(lora_rank=lora, gradient_checkpointing=wanted, max_grad_norm=1e9)
        made = task(open_model(engine.spec.uri, EngineOptions(pack=False)), config)
        values = train_step(made, made.examples, Stepper(made.net, config, 1, run.world))
        results.append((values["loss"], values["gradient_norm"]))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_an_adapter_leaves_the_base_alone_and_everything_else_frozen(engine):
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    net = policy_net(engine, Optimisation(lora_rank=4), 0)
    changing = [name for name, value in net.named_parameters() if value.requires_grad]
    assert changing
    assert all("lora" in name for name in changing)
    start = net(collate(rows(engine)))[0]
    with net.model.disable_adapter():
        torch.testing.assert_close(net(collate(rows(engine)))[0], start)
    after = net.lm.state_dict()
    assert all(torch.equal(after[name.replace("proj.weight", "proj.base_layer.weight")], value) for name, value in before.items())


def test_training_resumes_to_the_same_losses(tiny_checkpoint, tmp_path):
    config = Optimisation(lr=1e-3, batch_size=4, epochs=3.0, save_every=2, keep=1, lora_rank=4)

    def losses(folder, resume=False, steps=0):
        made = task(open_model(str(tiny_checkpoint), EngineOptions(pack=False)), config)
        stage = StageRun(name="x", folder=folder, world=World(), seed=3, resume=resume, after_step=_stop_at(steps) if steps else None)
        folder.mkdir(exist_ok=True)
        fit(made, config, stage)
        return [row["loss"] for row in read_steps(folder / "steps.jsonl")]

    whole = losses(tmp_path / "whole")
    assert len(whole) == 9
    with pytest.raises(KeyboardInterrupt):
        losses(tmp_path / "cut", steps=4)
    assert losses(tmp_path / "cut", resume=True) == whole
    assert len(list((tmp_path / "cut" / "checkpoints").iterdir())) == 1


def _stop_at(step):
    def stop(done):
        if done >= step:
            raise KeyboardInterrupt

    return stop


def test_sampling_is_keyed_by_sample_and_ends_at_the_end_token(engine):
    hot = Sampling(temperature=4.0, max_new_tokens=120)  # a random model hardly ever ends otherwise
    sampler = EngineSampler(engine, engine.model, rows=3)
    prompts = [(f"p{i}", Encoder(engine, 256).prompt([user("fox " * (i + 1))])) for i in range(7)]
    together = sampler(prompts, hot, 5)
    backwards = sampler(prompts[::-1], hot, 5)[::-1]
    alone = [sampler([prompt], hot, 5)[0] for prompt in prompts]
    assert together == backwards == alone
    assert together != sampler(prompts, hot, 6)
    for row in together:
        assert ended(row, engine.stop_tokens) == (row.completion[-1] in engine.stop_tokens)
        assert not any(token in engine.stop_tokens for token in row.completion[:-1])
        assert ended(row, engine.stop_tokens) or len(row.completion) == 120
    assert any(ended(row, engine.stop_tokens) for row in together)


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own():
    config = Optimisation(batch_size=4, epochs=2.0)
    assert steps_of(config, 10) == 6
    first = [index for step in range(3) for index in batch_at(config, 10, 0, step)]
    second = [index for step in range(3, 6) for index in batch_at(config, 10, 0, step)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert order(10, 0, 0) != order(10, 1, 0)
    assert steps_of(Optimisation(batch_size=4, max_steps=2), 10) == 2


def test_learning_rate_rises_then_falls_to_zero():
    rates = [rate(step, 10, "linear", 0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[3:] == pytest.approx([1 - k / 8 for k in range(1, 8)])
    assert rate(9, 10, "cosine", 0.0) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.9)))
    assert {rate(step, 10, "constant", 0.0) for step in range(10)} == {1.0}


def test_settings_are_checked_and_the_nearest_key_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'batch_size'"):
        build(Optimisation, {"batchsize": 4}, "stage 'sft'")
    with pytest.raises(InputError, match="lr is 'high'; pass a value of type float"):
        build(Optimisation, {"lr": "high"}, "stage 'sft'")
    with pytest.raises(UnknownNameError, match="'cosine'"):
        build(Optimisation, {"schedule": "cosin"}, "stage 'sft'")
    assert build(Optimisation, {"lr": 1}, "x").lr == 1.0


def test_a_prompt_that_is_too_long_names_the_example(engine):
    with pytest.raises(InputError, match="example 'long' has .* the limit is 30"):
        Encoder(engine, 30).pair("long", [user("fox " * 40)], "dog")


@pytest.mark.parametrize(("values", "message"), [
    ({"loss": math.nan}, "loss is nan"), ({"loss": 1.0, "gradient_norm": math.inf}, "gradient_norm is inf"),
    ({"loss": 60.0}, "loss is 60 after a median of 1"), ({"loss": 1.0, "kl": 12.0}, "kl is 12, outside 0 to 10")])
def test_a_run_that_comes_apart_is_stopped_with_what_to_do(values, message):
    guard = Guard("ppo", "stop", {"kl": (0, 10)})
    for step in range(1, 8):
        assert guard.check(step, {"loss": 1.0 + step / 100, "kl": 1.0}) == ""
    with pytest.raises(TrainingError, match=message) as error:
        guard.check(8, values)
    assert "step 8" in str(error.value)
    patient = Guard("ppo", "continue", {"kl": (0, 10)})
    patient.losses.extend([1.0] * 6)
    assert message.split(" is ")[0] in patient.check(8, values)
    assert patient.events == 1


def test_a_checkpoint_that_is_damaged_is_named(tmp_path):
    kept = Checkpoints(tmp_path, 2)
    for step in (1, 2, 3):
        kept.save(step, {"x": torch.ones(2) * step}, {"note": "ä"})
    assert [path.name for path in kept.all()] == ["step-000002", "step-000003"]
    tensors, state = kept.latest()
    assert (tensors["x"].tolist(), state["step"], state["note"]) == ([3, 3], 3, "ä")
    (tmp_path / "step-000003" / "tensors.safetensors").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="step-000003 cannot be read"):
        kept.latest()


def test_step_log_keeps_no_nan_and_forgets_what_is_repeated(tmp_path):
    log = StepLog(tmp_path / "steps.jsonl")
    for step in (1, 2, 3):
        log.write(step, {"loss": math.nan if step == 2 else 0.5})
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["loss"] for row in read_steps(tmp_path / "steps.jsonl")] == [0.5, None, 0.5]
    log.rewind(2)
    assert [json.loads(line)["step"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()] == [1, 2]


def test_a_special_token_in_a_reply_is_text(engine):
    """Data and model output plant no end of turn."""
    row = Encoder(engine, 256).pair("x", [user("fox")], "dog<|end|>dog")
    assert row.completion.count(engine.tokenizer.eos_token_id) == 1


def test_logits_that_are_scaled_after_the_projection_are_refused(engine):
    plain = engine.model.forward

    def scaled(*args, **kwargs):
        out = plain(*args, **kwargs)
        out.logits = out.logits / 4
        return out

    engine.model.forward = scaled
    with pytest.raises(InputError, match="scales or caps its logits"):
        policy_net(engine, Optimisation(), 0)


def test_changed_data_are_not_resumed_on(tiny_checkpoint, tmp_path):
    config = Optimisation(lr=1e-3, batch_size=4, save_every=1)
    made = task(open_model(str(tiny_checkpoint), EngineOptions(pack=False)), config)
    with pytest.raises(KeyboardInterrupt):
        fit(made, config, StageRun(name="x", folder=tmp_path, world=World(), after_step=_stop_at(1)))
    changed = replace(made, examples=made.examples[1:])
    with pytest.raises(InputError, match="changed since the checkpoint at step 1"):
        fit(changed, config, StageRun(name="x", folder=tmp_path, world=World(), resume=True))
