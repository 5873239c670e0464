"""README and CONTRIBUTING tell the truth: the commands exist, the tree matches, the Python examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(README, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("auditor ", "make "))]


def test_the_two_commands_come_first():
    assert commands()[:2] == ["make demo", "make test"]
    for target in ("demo", "test"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.cli
@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("auditor ")])
def test_every_auditor_command_parses(command):
    """Each command's options exist: asked for help, the parser has read all that stands before."""
    words = shlex.split(command)
    done = subprocess.run([sys.executable, "-m", "auditor", words[1], "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    for word in words[2:]:
        if word.startswith("-"):
            assert word.split("=")[0] in plain, f"{command}: no option {word}"


def test_the_file_tree_matches():
    tree = next(block for block in blocks(README, "text") if "pyproject.toml" in block)
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line and not line.startswith(" ")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    tops = {name.split("/")[0] for name in tracked} - {".gitignore"}
    assert named == tops


def test_the_file_tree_names_every_module():
    tree = next(block for block in blocks(README, "text") if "pyproject.toml" in block)
    for folder in ("auditor", "suites", "reports", "training", "benchmarks"):
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py"):
                assert path.name in tree, f"README's tree lacks {folder}/{path.name}"


def test_contributing_suite_example_runs():
    from auditor.schema import Context, Generation, OptionLogprob, Sample, SuiteData, user

    example = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")[0]
    space: dict = {}
    exec(compile(example, "CONTRIBUTING.md", "exec"), space)
    samples = tuple(Sample(id=str(i), messages=(user("?"),), cluster_id=str(i), target="A", choices=("A", "B")) for i in range(8))
    scores = []
    for sample in samples:
        solving = space["solve"](sample, Context())
        assert next(solving)[0].options == ("A", "B")
        reply = Generation(sample_id=sample.id, text="A", logprobs=(OptionLogprob(text="A", logprob=-0.1),))
        scores += space["score"](sample, ((reply,),), Context())
    (metric,) = space["aggregate"](SuiteData(samples=samples, replies={}, scores=tuple(scores), context=Context()))
    assert metric.value == 1
    assert metric.n == 8


def test_python_example_in_the_readme_compiles():
    for example in blocks(README, "python"):
        compile(example, "README.md", "exec")


def test_versions_agree():
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
