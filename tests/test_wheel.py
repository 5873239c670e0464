"""The built wheel, installed apart from the checkout: everything is in it, nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("source") / "tree"
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():  # the build writes into its source: give it a copy
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_holds_every_module_and_data_file_and_no_foreign_top_level(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("auditor", "auditor"), ("suites", "auditor/suites"), ("training", "auditor/training"), ("reports", "auditor/reports")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".jsonl", ".html", ".css", ".js", ".typed") and "__pycache__" not in path.parts:
                assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names, path
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"auditor"}


def test_runs_from_the_wheel(wheel, tmp_path, tiny_checkpoint):
    """Installed into an environment of its own that sees the dependencies, but not the checkout."""
    place = tmp_path / "env"
    venv.create(place, with_pip=False)
    site = next(place.glob("lib/python*/site-packages"))
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dependencies = Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")  # plain path: no .pth of the editable install is read from there
    run = [str(place / "bin" / "python"), "-m", "auditor"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    where = subprocess.run([run[0], "-c", "import auditor, auditor.suites; print(auditor.__file__, auditor.suites.__file__)"], cwd=tmp_path,
                           capture_output=True, text=True, env=environment)
    assert where.stdout.count(str(site)) == 2, where.stdout + where.stderr
    audited = subprocess.run([*run, "run", str(tiny_checkpoint), "--suite", "sycophancy", "--limit", "4"], cwd=tmp_path, capture_output=True, text=True,
                             env=environment)
    assert audited.returncode in (0, 1, 4), audited.stderr
    assert "Verdicts" in audited.stdout
    reported = subprocess.run([*run, "report", "latest", "-o", "page.html"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "page.html").stat().st_size > 10_000
