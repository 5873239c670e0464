"""The built-in engine: a transformers causal language model from safetensors, on CPU or one GPU."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from auditor.errors import EngineError, ModelError
from auditor.models.chat import PLAIN_TEMPLATE, render, split_reasoning, template_hash
from auditor.models.decode import Clock, Row, decode, option_logprobs, uniforms
from auditor.models.encoding import Encoder
from auditor.models.identity import lineage, weights_hash
from auditor.models.packed import pack
from auditor.models.replies import cut_at, option_reply, place_of, too_long
from auditor.models.resolve import Checkpoint, EngineOptions
from auditor.schema import Generation, ModelSpec, Request, Usage

logger = logging.getLogger(__name__)

CPU_ROWS, GPU_ROWS = 64, 256
CPU_POSITIONS, GPU_POSITIONS = 8_192, 262_144  # cache positions of one batch: bounds memory
NAN_LIMIT = 32  # requests on end without a finite number
STOP_WINDOW = 24  # the last tokens in which a stop string is looked for at each step
OPTION_LOGITS = 64_000_000  # logits held at once for multi-token options (float32: 256 MB)


class HFModel:
    """Answers ``generate`` and ``logprobs`` requests. Batches are a pure function of the requests and the options."""

    def __init__(self, checkpoint: Checkpoint, options: EngineOptions) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.clock = Clock()
        self.options = options
        self.tokenizer, self.model = _load(checkpoint, options, self.device)
        self.packed = options.pack and pack(self.model)
        template = getattr(self.tokenizer, "chat_template", None)
        self.template = template if isinstance(template, str) and template else PLAIN_TEMPLATE
        self.stop_tokens = _stop_tokens(self.tokenizer, self.model)
        self.context = _context(self.model.config)
        self.think_end = _think_end(self.tokenizer, self.template)
        self.without_numbers = 0  # requests since the last one with finite numbers
        self.encoder = Encoder(self.tokenizer, self.template)
        self.spec = self._describe(checkpoint)

    def _describe(self, checkpoint: Checkpoint) -> ModelSpec:
        flags = []
        if self.template == PLAIN_TEMPLATE:
            flags.append("no chat template: the plain template (User:/Assistant:) was used")
        if self.think_end is not None:
            flags.append(f"reasoning model: up to {self.options.reasoning_tokens} tokens of <think> are allowed, split off and counted apart; "
                         "option probabilities are read without reasoning")
        dtype = str(self.model.dtype).removeprefix("torch.")
        return ModelSpec(uri=checkpoint.uri, weights_hash=weights_hash(checkpoint), template_hash=template_hash(self.template), dtype=dtype,
                         engine=f"hf/{self.device}" + ("/packed" if self.packed else ""), flags=tuple(flags), lineage=lineage(checkpoint))

    # -- planning ---------------------------------------------------------------------------------------------------

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Batches of one kind, sorted by prompt length: little padding, and the same batches whenever the requests are the same."""
        lengths = {request.key: len(self.prompt_ids(request)) for request in requests}
        ordered = sorted(requests, key=lambda request: (request.kind, lengths[request.key], request.key))
        batches: list[list[Request]] = []
        for request in ordered:
            width = self._width(request, lengths[request.key])
            if not batches or batches[-1][0].kind != request.kind or not self._fits(batches[-1], request, width):
                batches.append([])
            batches[-1].append(request)
        return batches

    def _width(self, request: Request, length: int) -> int:
        if request.kind != "generate":
            return length
        thinking = self.options.reasoning_tokens + request.sampling.max_tokens if self.think_end is not None else 0
        return length + request.sampling.max_tokens + thinking

    def _fits(self, batch: list[Request], request: Request, width: int) -> bool:
        gpu = self.device == "cuda"
        rows = self.options.batch_rows or (GPU_ROWS if gpu else CPU_ROWS)
        if len(batch) >= rows or (len(batch) + 1) * width > (GPU_POSITIONS if gpu else CPU_POSITIONS):
            return False
        if request.kind == "generate":
            return True
        # Options of several tokens need logits at each of them; a character is at least a third of a token.
        answer = sum(max(0, len(option) - 4) for item in [*batch, request] for option in item.options)
        return answer * self.model.config.get_text_config().vocab_size <= OPTION_LOGITS * 3

    def prompt_text(self, request: Request) -> str:
        return render(self.tokenizer, self.template, request.messages)

    def prompt_ids(self, request: Request) -> list[int]:
        return self.encoder.ids(request.messages)

    # -- answering --------------------------------------------------------------------------------------------------

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Answer one batch of requests of one kind.

        A prompt that does not fit the context, or one with NaN logits, gets a Generation with ``error`` set. Raises EngineError where
        the logits of NAN_LIMIT requests on end were NaN or infinite, or memory runs out.
        """
        started = time.perf_counter()
        prompts = [self.prompt_ids(request) for request in requests]
        options = [[self.encoder.continuation(request.messages, option) for option in request.options] for request in requests]
        fitting = [i for i in range(len(requests)) if len(prompts[i]) + max(map(len, options[i]), default=1) <= self.context]
        chosen, asked = [requests[i] for i in fitting], [prompts[i] for i in fitting]
        try:
            if not chosen:
                answered = []
            elif chosen[0].kind == "generate":
                answered = self._generate(chosen, asked)
            else:
                answered = self._score(chosen, asked, [options[i] for i in fitting])
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise EngineError(f"out of memory on a batch of {len(chosen)} requests; pass a smaller --batch-size ({error})") from None
        latency = (time.perf_counter() - started) / max(1, len(requests))
        replies = dict(zip(fitting, answered, strict=True))
        for index, request in enumerate(requests):
            yield replies.get(index) or too_long(request, self.spec.uri, len(prompts[index]), self.context)
        logger.debug("batch of %d: %.3f s a request", len(requests), latency)

    def _generate(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Generation]:
        rows = [self._row(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
        decode(self.model, rows, self.stop_tokens, self.clock)
        self._watch([row.finite for row in rows])
        return [self._finish(request, row) for request, row in zip(requests, rows, strict=True)]

    def _watch(self, finite: Sequence[bool]) -> None:
        """One request without finite numbers has no score; NAN_LIMIT of them on end, and there is no model to audit."""
        for ok in finite:
            self.without_numbers = 0 if ok else self.without_numbers + 1
        if self.without_numbers >= NAN_LIMIT:
            raise EngineError(f"the model returned NaN or infinite numbers for {self.without_numbers} requests on end; the weights are damaged or "
                              f"overflow in {self.spec.dtype}: try --dtype float32")

    def _row(self, request: Request, prompt: list[int]) -> Row:
        sampling = request.sampling
        thinking = self.options.reasoning_tokens if self.think_end is not None else 0
        room = self.context - len(prompt)
        budget = min(sampling.max_tokens, room)
        thinking = min(thinking, max(0, room - 2 * budget))
        numbers = uniforms(request.seed, budget + thinking + sampling.max_tokens + 1) if sampling.temperature > 0 else None
        return Row(prompt=prompt, max_tokens=budget, temperature=sampling.temperature, top_p=sampling.top_p, uniforms=numbers,
                   is_stopped=self._stopper(request), think_end=self.think_end, reasoning_budget=thinking)

    def _opened(self, request: Request) -> bool:
        """Whether the prompt itself begins the reasoning."""
        return self.prompt_text(request).rstrip().endswith("<think>")

    def _stopper(self, request: Request) -> Callable[[list[int]], bool] | None:
        """Whether the answer holds a stop string; one inside the reasoning ends nothing."""
        stop = request.sampling.stop
        if not stop:
            return None
        opened = self._opened(request)

        def stopped(tokens: list[int]) -> bool:
            recent = self.tokenizer.decode(tokens[-STOP_WINDOW:])
            if not any(text in recent for text in stop):
                return False
            answer, _ = split_reasoning(self.tokenizer.decode(tokens), opened=opened)
            return any(text in answer for text in stop)

        return stopped

    def _finish(self, request: Request, row: Row) -> Generation:
        usage = Usage(prompt_tokens=len(row.prompt), completion_tokens=len(row.tokens))
        if not row.finite:
            return Generation(**place_of(request, self.spec.uri), usage=usage, finish_reason="error", error="the model returned NaN or infinite logits")
        text = self.tokenizer.decode(row.tokens, skip_special_tokens=self.think_end is None)
        answer, reasoning = split_reasoning(text, opened=self._opened(request))
        answer = cut_at(answer, request.sampling.stop)
        if reasoning:
            inside = len(self.tokenizer(reasoning, add_special_tokens=False)["input_ids"])
            usage = Usage(prompt_tokens=len(row.prompt), completion_tokens=max(0, len(row.tokens) - inside), reasoning_tokens=inside)
        return Generation(**place_of(request, self.spec.uri), text=answer, reasoning=reasoning, usage=usage,
                          finish_reason="stop" if row.finish == "stop" else "length")

    def _score(self, requests: Sequence[Request], prompts: Sequence[list[int]], options: Sequence[Sequence[list[int]]]) -> list[Generation]:
        values = option_logprobs(self.model, list(prompts), options, self.clock)
        self._watch([all(math.isfinite(number) for option in row for number in option) for row in values])
        return [option_reply(request, self.spec.uri, len(prompt), found) for request, prompt, found in zip(requests, prompts, values, strict=True)]


def _load(checkpoint: Checkpoint, options: EngineOptions, device: str) -> tuple[Any, Any]:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    dtype: Any = getattr(torch, options.dtype) if options.dtype != "auto" else (torch.float32 if device == "cpu" else "auto")
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.folder), **common)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(str(checkpoint.folder), dtype=dtype, use_safetensors=True, **common)
        if checkpoint.adapter is not None:
            import peft

            model = peft.PeftModel.from_pretrained(model, str(checkpoint.adapter), use_safetensors=True).merge_and_unload()
            if (checkpoint.adapter / "tokenizer.json").is_file():
                tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.adapter), **common)
    except Exception as error:  # transformers, safetensors and peft raise many kinds for a broken checkpoint
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"cannot load {checkpoint.uri}: {reason}") from error
    return tokenizer, model.to(device).eval()


def _stop_tokens(tokenizer: Any, model: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)


def _context(config: Any) -> int:
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def _think_end(tokenizer: Any, template: str) -> int | None:
    if "</think>" not in tokenizer.get_vocab() and "</think>" not in template:
        return None
    ids = tokenizer("</think>", add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 else None
