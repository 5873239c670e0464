"""Options that several commands share, or that one would be too long with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DB = Path("auditor.duckdb")


def version(wanted: bool) -> None:
    """Print the version, and end there."""
    if wanted:
        from importlib import metadata

        typer.echo(f"auditor {metadata.version('alignment-auditor')}")
        raise typer.Exit


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
Version = Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")]
Database = Annotated[Path, typer.Option("--db", envvar="AUDITOR_DB", help="The DuckDB file with all runs.", show_default=True)]
Form = Annotated[str, typer.Option("--format", help="text or json.", metavar="text|json")]
RunName = Annotated[str, typer.Argument(help="A run's id, a unique beginning of it, or `latest`.", metavar="RUN")]
AuditedModel = Annotated[str | None, typer.Argument(
    help="A folder of safetensors, a LoRA adapter folder, a GGUF file, `hf:org/name`, `recorded:FILE.jsonl`, or `smollm2`, the embedded default. "
         "`vllm:` before a name of weights runs them in vLLM, `ray:` before either on several workers; `openai:MODEL@URL` asks a server.")]
Profile = Annotated[str, typer.Option(help="quick: 40 items a suite, no evidence; standard: every item; full: also repeated draws.",
                                      metavar="quick|standard|full")]
Dtype = Annotated[str, typer.Option(help="auto is float32 on a CPU, the checkpoint's own on a GPU; for others the drift is printed.",
                                    metavar="auto|float32|bfloat16|float16")]
EngineArg = Annotated[list[str] | None, typer.Option(help="Passed on to vLLM, for instance tensor_parallel_size=2; repeat for several.", metavar="NAME=VALUE")]
Cache = Annotated[bool | None, typer.Option("--cache/--no-cache", help="Take replies to questions that were asked before from the response cache; "
                                                                       "by default for endpoints alone.", show_default=False)]
Concurrency = Annotated[int | None, typer.Option(help="Endpoints: requests in flight; 16 by default.", min=1)]
Timeout = Annotated[float | None, typer.Option(help="Endpoints: seconds until an attempt is given up; 120 by default.")]
Retries = Annotated[int | None, typer.Option(help="Endpoints: further attempts of a request; 6 by default.", min=0)]
FailOnError = Annotated[str | None, typer.Option(help="Endpoints: how many requests, or which share of them, may stay without a reply before "
                                                      "the run stops (resumable); 0.05 by default.", metavar="N|SHARE")]
Endpoint = Annotated[list[str] | None, typer.Option(help="A further URL that serves the same model; repeat for several.", metavar="URL")]
Price = Annotated[str | None, typer.Option(help="What an endpoint takes for a million tokens read and written.", metavar="IN,OUT")]
Workers = Annotated[int | None, typer.Option(help="Ray: engines side by side; by default one a GPU, without GPUs one a machine.", min=1)]
WorkerGpus = Annotated[float | None, typer.Option(help="Ray: GPUs of each worker, or a share of one; by default what its engine uses.", min=0)]
RayAddress = Annotated[str | None, typer.Option(help="Ray: a cluster to join instead of starting Ray on this machine.", metavar="HOST:PORT|auto")]
