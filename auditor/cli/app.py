"""All commands. Each is a few lines that call one function; anything heavy is imported inside."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from auditor.cli import options as given
from auditor.cli.options import DEFAULT_DB, Database, Form, RunName

app = typer.Typer(name="auditor", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False,
                  help="Audit a language model for the faults that a learned reward plants: sycophancy, padding, false confidence, "
                       "over-refusal, collapse. Every number has an interval, every verdict follows from it.\n\n"
                       "Start with `auditor demo`, or `auditor run smollm2 --profile quick`.")


@app.callback()
def main(verbose: given.Verbose = False, _version: given.Version = False) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("httpx", "httpx2", "openai", "sentence_transformers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("auditor").setLevel(logging.INFO)
    if not verbose:  # libraries announce their own future, which no user of ours can change
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", module="peft")


@app.command(epilog="Examples: `auditor run smollm2 --profile quick` · `auditor run ./checkpoint --suite sycophancy --suite refusal` · "
                    "`auditor run recorded:outputs.jsonl` · `auditor run --resume latest`. "
                    "Exit codes: 0 nothing failed and something was decided, 1 a criterion failed, 2 bad input, 3 engine or store failed, "
                    "4 undecided, 130 interrupted.")
def run(
    model: given.AuditedModel = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", "-s", help="A suite to run; repeat for several. All by default.")] = None,
    profile: given.Profile = "standard",
    limit: Annotated[int | None, typer.Option(help="At most so many items a suite: such a run is no evidence.")] = None,
    baseline: Annotated[str | None, typer.Option(help="A run in the same database to compare lengths and diversity with.", metavar="RUN")] = None,
    judge: Annotated[str | None, typer.Option(help="A model that judges; it must first pass judge_agreement itself.", metavar="MODEL")] = None,
    items: Annotated[list[str] | None, typer.Option(help="Your own items for a suite; repeat for several.", metavar="SUITE=FILE")] = None,
    system: Annotated[Path | None, typer.Option(help="A file whose text is the system prompt of the audited model.")] = None,
    embedder: Annotated[str | None, typer.Option(help="A sentence-transformers id or folder; the packaged MiniLM by default.")] = None,
    dtype: given.Dtype = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Rows in a batch; by default the engine chooses.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads; by default torch chooses.", min=1)] = None,
    reasoning_tokens: Annotated[int, typer.Option(help="Tokens that a reasoning model may think before its answer.", min=0)] = 512,
    engine_arg: given.EngineArg = None,
    cache: given.Cache = None,
    concurrency: given.Concurrency = None,
    timeout: given.Timeout = None,
    retries: given.Retries = None,
    fail_on_error: given.FailOnError = None,
    endpoint: given.Endpoint = None,
    price: given.Price = None,
    workers: given.Workers = None,
    worker_gpus: given.WorkerGpus = None,
    ray_address: given.RayAddress = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw and the choice of a subset.")] = 0,
    db: Database = DEFAULT_DB,
    resume: Annotated[str | None, typer.Option(help="Go on with an interrupted run; its own options are used.", metavar="RUN")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 where something required is inconclusive or not assessed.")] = False,
    output: Form = "text",
) -> int:
    """Audit a model: run the suites, store everything, print the verdicts."""
    from auditor.cli.running import RunArguments, run_command

    return run_command(RunArguments(
        model=model, suites=tuple(suite or ()), profile=profile, limit=limit, baseline=baseline, judge=judge, items=tuple(items or ()),
        system=system, embedder=embedder, dtype=dtype, batch_size=batch_size, threads=threads, reasoning_tokens=reasoning_tokens, seed=seed,
        engine_args=tuple(engine_arg or ()), cache=cache, endpoint={"concurrency": concurrency, "timeout": timeout, "retries": retries,
                                                                    "fail_on_error": fail_on_error, "endpoint": tuple(endpoint or ()), "price": price},
        ray={"workers": workers, "gpus": worker_gpus, "address": ray_address}, db=db, resume=resume, strict=strict, output=output))


@app.command(epilog="Examples: `auditor report latest -o audit.html` · `auditor report latest --standard eu-ai-act --about about.toml` · "
                    "`auditor report latest --format markdown -o MODEL_CARD.md`. A compliance report of a quick or limited run is refused (exit 2).")
def report(
    run: RunName,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write; RUN.html by default. `-`: standard output, not for the audit report")] = None,
    beside: Annotated[list[str] | None, typer.Option("--with", help="Another run to show beside it; repeat for several.", metavar="RUN")] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out transcripts that may hold harmful text.")] = False,
    standard: Annotated[str | None, typer.Option(help="Hold the measurements beside a standard's provisions, with gaps and sign-off.",
                                                 metavar="eu-ai-act|nist-ai-rmf|iso-42001")] = None,
    about: Annotated[Path | None, typer.Option(help="A TOML file with purpose, limits, owner and contact (see docs/about.toml).", metavar="FILE")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Make the compliance report of any run, stamped NOT EVIDENCE.")] = False,
    output: Annotated[str, typer.Option("--format", help="json and markdown (a model card) also work without --standard.",
                                        metavar="html|json|markdown")] = "html",
    db: Database = DEFAULT_DB,
) -> None:
    """Write one self-contained page about a run: the audit report, or with --standard the compliance report."""
    from auditor.cli.compliance import ReportArguments, report_command

    report_command(ReportArguments(run=run, out=out, beside=tuple(beside or ()), redact=redact, db=db, standard=standard, about=about, draft=draft,
                                   output=output))


@app.command(epilog="Examples: `auditor compare main.duckdb candidate.duckdb --policy gate.toml` · `auditor compare RUN latest --strict` · "
                    "`auditor compare A B -o summary.md -o junit.xml -o gate.html`. Exit codes: 0 the gate passes, 1 worse than the policy allows, "
                    "2 not comparable or bad input, 4 undecided (under --strict also where anything required is).")
def compare(
    runs: Annotated[list[str], typer.Argument(help="The baseline, then one or more candidates: each a run of --db, DB_FILE:RUN, or DB_FILE for its latest.",
                                              metavar="BASELINE CANDIDATE...")],
    policy: Annotated[Path | None, typer.Option(help="What a candidate must not lose; `auditor init` writes one. None: no worse on any headline.")] = None,
    output: Annotated[str | None, typer.Option("--format", help="text by default.", metavar="text|markdown|json|junit|html")] = None,
    out: Annotated[list[Path] | None, typer.Option("-o", "--out", help="Write to a file; repeat for several, whose endings say the format.")] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", "-s", help="Compare this suite only; repeat for several.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 where anything required is open, or a run is no evidence (--limit, quick).")] = False,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out transcripts that may hold harmful text.")] = False,
    db: Database = DEFAULT_DB,
) -> int:
    """Compare runs on the same items and hold them against a policy: better, worse, equivalent or inconclusive, each with its interval."""
    from auditor.cli.comparing import CompareArguments, compare_command

    return compare_command(CompareArguments(runs=tuple(runs), db=db, policy=policy, output=output, out=tuple(out or ()), suites=tuple(suite or ()),
                                            strict=strict, redact=redact))


@app.command(epilog="Example: `auditor init gate.toml`")
def init(path: Annotated[Path, typer.Argument(help="The file to write; an existing one is never replaced.")] = Path("gate.toml")) -> None:
    """Write a policy file for `auditor compare`, with comments, over the headline measurements of the shipped suites."""
    from auditor.cli.comparing import init_command

    init_command(path)


@app.command(epilog="Example: `auditor runs --format json`")
def runs(db: Database = DEFAULT_DB, output: Form = "text") -> None:
    """List the runs in the database."""
    from auditor.cli.reading import runs_command

    runs_command(db, output)


@app.command(epilog="Examples: `auditor show latest` · `auditor show latest --samples --format json`")
def show(
    run: RunName,
    samples: Annotated[bool, typer.Option("--samples", help="Every score with its prompt and completion.")] = False,
    db: Database = DEFAULT_DB,
    output: Form = "text",
) -> None:
    """Print a run's metrics and verdicts."""
    from auditor.cli.reading import show_command

    show_command(db, run, samples, output)


@app.command(epilog="Examples: `auditor verify latest --head 9f2c…` · `auditor verify audit.html`. Exit codes: 0 everything agrees, 1 something does not, "
                    "2 bad input or not sealed, 4 a report of another version whose text cannot be compared.")
def verify(
    target: Annotated[str, typer.Argument(help="A run, as for `show`, or the HTML file of a report.", metavar="RUN|REPORT.html")],
    head: Annotated[str | None, typer.Option(help="The head of the run's hash chain, from where it was kept: a log, a signed file.", metavar="HASH")] = None,
    db: Database = DEFAULT_DB,
    output: Form = "text",
) -> int:
    """Find rows that were changed, dropped, added or reordered since the run was recorded, and reports whose text is not the store's."""
    from auditor.cli.verifying import verify_command

    return verify_command(db, target, head, output)


@app.command(epilog="Examples: `auditor suites` · `auditor suites refusal` · `auditor suites refusal --prompts prompts.jsonl`")
def suites(
    name: Annotated[str | None, typer.Argument(help="One suite, in detail.", metavar="SUITE")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Write the suite's first-turn prompts, as lines that a recorded file must answer. "
                                                             "What is asked in later turns depends on the replies and is not written.")] = None,
    output: Form = "text",
) -> None:
    """List the suites, or describe one: what it measures, how, its criteria and their rationale."""
    from auditor.cli.describing import suites_command

    suites_command(name, prompts, output)


@app.command(epilog="Examples: `auditor export latest --to json` · `auditor export latest --to parquet -o run`")
def export(
    run: RunName,
    to: Annotated[str, typer.Option(help="JSON lines in one file, or a folder of Parquet files.", metavar="json|parquet")] = "json",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The new file or folder; RUN.jsonl or RUN by default.")] = None,
    db: Database = DEFAULT_DB,
    output: Form = "text",
) -> None:
    """Write a finished run with its hash chain to files that `auditor import` takes back, identical."""
    from auditor.cli.moving import export_command

    export_command(db, run, to, out, output)


@app.command("import", epilog="Example: `auditor import run.jsonl --db other.duckdb`")
def import_(path: Annotated[Path, typer.Argument(help="What `auditor export` wrote.")], db: Database = DEFAULT_DB, output: Form = "text") -> None:
    """Take an exported run into the database: only whole, and only if its hash chain holds."""
    from auditor.cli.moving import import_command

    import_command(db, path, output)


@app.command(epilog="Examples: `auditor score latest` · `auditor score RUN --suite refusal`. Exit codes as of `auditor run`.")
def score(
    name: RunName,
    suite: Annotated[list[str] | None, typer.Option("--suite", "-s", help="A suite to score again; repeat for several. All of the run's by default.")] = None,
    db: Database = DEFAULT_DB,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 where something required is inconclusive or not assessed.")] = False,
    output: Form = "text",
) -> int:
    """Score a finished run again from its stored replies: no model is loaded. Makes a new run, which names the old one."""
    from auditor.cli.scoring import score_command

    return score_command(db, name, tuple(suite or ()), strict, output)


@app.command(epilog="Examples: `auditor engines smollm2 vllm:smollm2` · `auditor engines ./checkpoint openai:name@http://127.0.0.1:8000/v1 --limit 20`")
def engines(
    models: Annotated[list[str], typer.Argument(help="The same model under two or more engines; the first is the reference.", metavar="MODEL OTHER...")],
    suite: Annotated[list[str] | None, typer.Option("--suite", "-s", help="A suite whose questions are asked; repeat for several. All by default.")] = None,
    limit: Annotated[int, typer.Option(help="Items a suite.", min=1)] = 24,
    engine_arg: given.EngineArg = None,
    workers: given.Workers = None,
    worker_gpus: given.WorkerGpus = None,
    ray_address: given.RayAddress = None,
    output: Form = "text",
) -> int:
    """Ask the same questions of the same model under several engines, and print where the numbers part and by how much."""
    from auditor.cli.engines import engine_options, engines_command

    options = engine_options(tuple(engine_arg or ()), {"workers": workers, "gpus": worker_gpus, "address": ray_address})
    return engines_command(models, tuple(suite or ()), limit, options, output)


@app.command(epilog="Examples: `auditor train rlhf` · `auditor train dpo --set dpo.lr=1e-4 --set seed=1 --out mine` · "
                    "`auditor train rlhf --dry-run` · `auditor train rlhf --resume`. Exit codes: 0 trained, 2 bad input, 3 training failed, 130 interrupted.")
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (see `auditor recipes`) or a TOML file.")],
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: seed=1, model=./checkpoint, dtype=bfloat16, or "
                                                                                      "STAGE.key=value; repeat for several.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The folder for checkpoints; trained/RECIPE by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan: data, steps, tokens, memory, expected time.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write every statistic into this folder for TensorBoard.", metavar="DIR")] = None,
    db: Database = DEFAULT_DB,
    output: Form = "text",
) -> int:
    """Train a model by a recipe: imitation, reward models, PPO, direct preference methods. Each checkpoint can be audited."""
    from auditor.cli.training import TrainArguments, train_command

    return train_command(TrainArguments(recipe=recipe, changes=tuple(change or ()), resume=resume, out=out, dry_run=dry_run, tensorboard=tensorboard,
                                        db=db, output=output))


@app.command(epilog="Example: `auditor recipes`")
def recipes(output: Form = "text") -> None:
    """List the shipped training recipes."""
    from auditor.cli.training import recipes_command

    recipes_command(output)


@app.command(epilog="Examples: `auditor merge trained/dpo/1-dpo/model served` · `auditor merge smollm2 start --dtype bfloat16`")
def merge(
    model: Annotated[str, typer.Argument(help="A LoRA adapter folder, a GGUF file, a folder of safetensors, `hf:org/name` or `smollm2`.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; an existing one is never replaced.")],
    dtype: Annotated[str, typer.Option(help="What the merged weights are rounded to.", metavar="float32|bfloat16|float16")] = "float32",
    output: Form = "text",
) -> None:
    """Write a model as one plain folder of safetensors, adapter merged: for servers, converters, and as the start of PPO with a rollout server."""
    from auditor.cli.training import merge_command

    merge_command(model, out, dtype, output)


@app.command(epilog="Example: `auditor trainings --format json`")
def trainings(db: Database = DEFAULT_DB, output: Form = "text") -> None:
    """List the training runs in the database."""
    from auditor.cli.training import trainings_command

    trainings_command(db, output)


@app.command()
def doctor(output: Form = "text") -> int:
    """Check this machine: packages, the embedded model, embeddings, cache, memory, disk, browser."""
    from auditor.cli.doctor import doctor_command

    return doctor_command(output)


@app.command(epilog="Examples: `auditor demo -o demo` · `auditor demo --no-train`. A demo that was interrupted goes on where it stopped.")
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder for the database, the trained models and the report.")] = Path("auditor-demo"),
    no_train: Annotated[bool, typer.Option("--no-train", help="Audit the base model only: about three minutes.")] = False,
    model: Annotated[str, typer.Option(help="The base model: a folder of safetensors, a GGUF file, `hf:org/name`, or `smollm2`.")] = "smollm2",
    limit: Annotated[int | None, typer.Option(help="At most so many items a suite, for a still quicker look.", min=1)] = None,
) -> int:
    """Audit the embedded model, train a candidate and one with a planted fault from it, audit both, compare: below 20 minutes on two cores."""
    from auditor.cli.demo import DemoArguments, demo_command

    return demo_command(DemoArguments(out=out, train=not no_train, model=model, limit=limit))
