"""vLLM in process, for models and loads that the built-in engine is too slow for. Needs the extra ``auditor[vllm]``.

Prompts are tokenized here, by the same code as for the built-in engine, so both are asked the same tokens. Greedy texts and option log-probabilities
agree with its (``auditor engines`` prints where not); sampled texts are drawn by vLLM's own generator, from the request's seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from auditor.errors import EngineError, InputError, ModelError
from auditor.models.chat import PLAIN_TEMPLATE, render, split_reasoning, template_hash
from auditor.models.encoding import Encoder
from auditor.models.identity import lineage, weights_hash
from auditor.models.replies import cut_at, option_reply, place_of, too_long
from auditor.models.resolve import Checkpoint, EngineOptions
from auditor.schema import Generation, ModelSpec, Request, Usage

ROWS = 512  # requests that are recorded together; vLLM batches among them as it sees fit
# The engine's core in this process ends with it; on a CPU 2 GiB hold some 45,000 positions of a small model.
ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}
MISSING = "vllm: needs vLLM, which is not installed here; pip install 'alignment-auditor[vllm]' (on a CPU: make vllm-env), or pass the model without vllm:"


class VLLMModel:
    """Answers ``generate`` and ``logprobs`` requests through ``vllm.LLM``. ``options.engine_args`` are passed on to it (tensor_parallel_size=2 …)."""

    def __init__(self, checkpoint: Checkpoint, options: EngineOptions) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import vllm
        except ImportError as error:
            raise ModelError(MISSING if "vllm" in str(error) else f"vLLM cannot be imported: {error}; see make vllm-env for what has to go with it") from None
        self.vllm, self.options = vllm, options
        self.tokenizer = _tokenizer(checkpoint)
        template = getattr(self.tokenizer, "chat_template", None)
        self.template = template if isinstance(template, str) and template else PLAIN_TEMPLATE
        self.encoder = Encoder(self.tokenizer, self.template)
        self.reasons = "</think>" in self.template or "</think>" in self.tokenizer.get_vocab()
        self.lora: Any = None
        self.llm = self._open(checkpoint)
        self.context = int(self.llm.llm_engine.model_config.max_model_len)
        self.spec = self._describe(checkpoint)

    def _open(self, checkpoint: Checkpoint) -> Any:
        dtype = self.options.dtype if self.options.dtype != "auto" else ("auto" if _has_gpu() else "float32")
        given: dict[str, Any] = {"model": str(checkpoint.folder), "dtype": dtype, "seed": 0, "disable_log_stats": True, "trust_remote_code": False,
                                 "load_format": "safetensors"}
        if checkpoint.adapter is not None:
            from vllm.lora.request import LoRARequest

            given |= {"enable_lora": True, "max_lora_rank": _rank(checkpoint), "lora_target_modules": _adapted(checkpoint)}
            self.lora = LoRARequest("adapter", 1, str(checkpoint.adapter))
        if not _has_gpu():
            given["enforce_eager"] = True  # compiling takes minutes on a CPU, longer than most audits
        if self.options.batch_rows:
            given["max_num_seqs"] = self.options.batch_rows
        given |= {name: parsed(value) for name, value in self.options.engine_args}
        try:
            return self.vllm.LLM(**given)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"vLLM cannot open {checkpoint.uri}: {(str(error).splitlines() or [type(error).__name__])[0][:300]}") from error

    def _describe(self, checkpoint: Checkpoint) -> ModelSpec:
        flags = ["sampled texts are drawn by vLLM's generator: another draw than the built-in engine's from the same seed"]
        if self.template == PLAIN_TEMPLATE:
            flags.append("no chat template: the plain template (User:/Assistant:) was used")
        if self.reasons:
            flags.append(f"reasoning model: up to {self.options.reasoning_tokens} tokens more than asked for are allowed to hold its <think> part, which is "
                         "split off; option probabilities are read without reasoning")
        dtype = str(self.llm.llm_engine.model_config.dtype).removeprefix("torch.")
        return ModelSpec(uri=f"vllm:{checkpoint.uri}", weights_hash=weights_hash(checkpoint), template_hash=template_hash(self.template), dtype=dtype,
                         engine=f"vllm {self.vllm.__version__}/{'cuda' if _has_gpu() else 'cpu'}", flags=tuple(flags), lineage=lineage(checkpoint))

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Batches of one kind in the order of the requests' places."""
        batches: list[list[Request]] = []
        for request in sorted(requests, key=lambda request: (request.kind, request.key)):
            if not batches or batches[-1][0].kind != request.kind or len(batches[-1]) >= ROWS:
                batches.append([])
            batches[-1].append(request)
        return batches

    def prompt_ids(self, request: Request) -> list[int]:
        return self.encoder.ids(request.messages)

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Answer one batch of requests of one kind; a prompt that does not fit the context gets a Generation with ``error`` set.

        Raises EngineError where vLLM fails.
        """
        prompts = [self.prompt_ids(request) for request in requests]
        options = [[self.encoder.continuation(request.messages, option) for option in request.options] for request in requests]
        longest = [len(prompt) + max(map(len, found), default=0) + 1 for prompt, found in zip(prompts, options, strict=True)]
        fitting = [index for index in range(len(requests)) if longest[index] <= self.context]
        chosen = [(requests[index], prompts[index], options[index]) for index in fitting]
        answered = self._generate(chosen) if requests and requests[0].kind == "generate" else self._score(chosen)
        replies = dict(zip(fitting, answered, strict=True))
        for index, request in enumerate(requests):
            yield replies.get(index) or too_long(request, self.spec.uri, len(prompts[index]), self.context)

    def _ask(self, prompts: Sequence[Sequence[int]], sampling: Sequence[Any]) -> list[Any]:
        if not prompts:
            return []
        try:
            return list(self.llm.generate([{"prompt_token_ids": list(prompt)} for prompt in prompts], list(sampling), use_tqdm=False, lora_request=self.lora))
        except Exception as error:  # vLLM's engine process raises kinds of its own
            raise EngineError(f"vLLM failed on a batch of {len(prompts)} requests: {(str(error).splitlines() or [type(error).__name__])[0][:300]}") from error

    def _generate(self, chosen: Sequence[tuple[Request, list[int], Any]]) -> list[Generation]:
        outputs = self._ask([prompt for _, prompt, _ in chosen], [self._sampling(request, len(prompt)) for request, prompt, _ in chosen])
        return [self._finish(request, prompt, output.outputs[0]) for (request, prompt, _), output in zip(chosen, outputs, strict=True)]

    def _sampling(self, request: Request, length: int) -> Any:
        asked = request.sampling
        budget = min(asked.max_tokens + (self.options.reasoning_tokens if self.reasons else 0), self.context - length)
        return self.vllm.SamplingParams(temperature=asked.temperature, top_p=asked.top_p if asked.temperature > 0 else 1.0, max_tokens=budget,
                                        seed=request.seed if asked.temperature > 0 else None, skip_special_tokens=not self.reasons,
                                        stop=list(asked.stop) if asked.stop and not self.reasons else None)

    def _finish(self, request: Request, prompt: list[int], output: Any) -> Generation:
        opened = render(self.tokenizer, self.template, request.messages).rstrip().endswith("<think>")
        whole, reasoning = split_reasoning(output.text, opened=opened)
        answer = cut_at(whole, request.sampling.stop)
        inside = len(self.tokenizer(reasoning, add_special_tokens=False)["input_ids"]) if reasoning else 0
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=max(0, len(output.token_ids) - inside), reasoning_tokens=inside)
        return Generation(**place_of(request, self.spec.uri), text=answer, reasoning=reasoning, usage=usage,
                          finish_reason="stop" if output.finish_reason == "stop" or answer != whole else "length")

    def _score(self, chosen: Sequence[tuple[Request, list[int], list[list[int]]]]) -> list[Generation]:
        """Log-probabilities of the options' tokens, read off the prompt log-probabilities of prompt and option together."""
        joint = [[*prompt, *option] for _, prompt, options in chosen for option in options]
        sampling = self.vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        outputs = iter(self._ask(joint, [sampling] * len(joint)))
        found = []
        for request, prompt, options in chosen:
            values = [_tail_logprobs(next(outputs), len(prompt), option) for option in options]
            found.append(option_reply(request, self.spec.uri, len(prompt), values))
        return found


def _tail_logprobs(output: Any, length: int, option: Sequence[int]) -> list[float]:
    return [float(output.prompt_logprobs[length + place][token].logprob) for place, token in enumerate(option)]


def _tokenizer(checkpoint: Checkpoint) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    own = checkpoint.adapter is not None and (checkpoint.adapter / "tokenizer.json").is_file()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(checkpoint.adapter if own else checkpoint.folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the tokenizer of {checkpoint.uri}: {(str(error).splitlines() or [''])[0][:300]}") from error


def _rank(checkpoint: Checkpoint) -> int:
    """The least rank that vLLM allows which holds the adapter's."""
    rank = int(_adapter_config(checkpoint).get("r", 8))
    return next((allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if rank <= allowed), 512)


def _adapted(checkpoint: Checkpoint) -> list[str] | None:
    """The modules that the adapter changes; None where it names them by a pattern.

    vLLM 0.32 prepares every module for adapters unless told which, the output layer too, and on a CPU that layer then fails on the
    log-probabilities of prompts, which options are read from.
    """
    named = _adapter_config(checkpoint).get("target_modules")
    return sorted({str(name).rpartition(".")[2] for name in named}) if isinstance(named, list) and named else None


def _adapter_config(checkpoint: Checkpoint) -> dict[str, Any]:
    import json

    return dict(json.loads((checkpoint.adapter / "adapter_config.json").read_text(encoding="utf-8"))) if checkpoint.adapter else {}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def parsed(value: str) -> Any:
    """An engine argument as typed: true, false, a number, JSON, or text. Raises InputError for broken JSON."""
    import json

    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return json.loads(value)
    except ValueError:
        if value[:1] in "[{":
            raise InputError(f"engine argument {value!r} is no valid JSON") from None
        return value
