# Every target creates and fills .venv when needed: Python ≥ 3.11 and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# tiny matrices: threads inside BLAS cost more than they give
export OMP_NUM_THREADS ?= 1
WORKERS ?= 2
CASES ?= 20000
DEVICE ?= cpu
# what the proofs need on Debian, where 100 MB are installed in a minute
COQ := coq libcoq-mathcomp-ssreflect libcoq-mathcomp-algebra libcoq-mathcomp-field \
	libcoq-mathcomp-algebra-tactics libcoq-mathcomp-real-closed

.PHONY: help verify report screenshot proofs certificates coq test fuzz test-slow browser lint format bench profile evidence \
	simulations figures clean

help:
	@echo "make verify     examine every claim and print the verdicts"
	@echo "make report     one page with every verdict, results/report.html; makes what is missing first"
	@echo "make screenshot the front page's picture of that page, by a headless Chromium"
	@echo "make proofs     have Coq check the proofs of claims; as root on Debian it installs Coq first"
	@echo "make certificates  find the terms of small certificates anew, and check what was found"
	@echo "make test       lint, types and tests"
	@echo "make fuzz       $(CASES) hostile command lines and files; a table in results/fuzz.json"
	@echo "make test-slow  what takes longer: built and installed beside others, killed sweeps"
	@echo "make browser    the report in a headless Chromium (Debian: apt-get install chromium)"
	@echo "make lint       ruff and mypy only"
	@echo "make format     let ruff rewrite the code"
	@echo "make bench      speed beside named peers, within one run; DEVICE=cuda for a GPU"
	@echo "make profile    what limits the benchmarks that miss their goals: benchmarks/limits.json"
	@echo "make evidence   make the runs of the study \"tiny\" that are missing, and keep their records; hours"
	@echo "make simulations  make the simulations that recorded claims rest on anew, and keep their records; minutes"
	@echo "make figures    run every experiment and draw the gallery"
	@echo "make clean      remove the environment and caches"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev,all]'
	touch $@

verify: $(READY)
	$(BIN)/lorakappa verify --json results/verdicts.json

report: $(READY)
	$(BIN)/lorakappa report --make

screenshot: $(READY)
	test -f results/report.html || $(BIN)/lorakappa report --make
	$(BIN)/python -m lorakappa.figures.report.screenshot results/report.html figures/gallery/report.png

coq:
	@command -v coqc >/dev/null || if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends $(COQ); \
	else echo "no coqc here; on Debian: apt-get install --no-install-recommends $(COQ)" >&2; exit 1; fi

proofs: coq
	$(PYTHON) conditioning/proofs/check.py

certificates: $(READY)
	$(BIN)/python -m lorakappa.conditioning.certificates.find --again --products 3 --out results/certificates \
		conditioning/certificates/ilora-ratio-cost-*.json
	$(BIN)/python -m lorakappa.conditioning.certificates.check results/certificates/*.json

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

fuzz: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) tests/fuzz --fuzz $(CASES) --fuzz-report results/fuzz.json

test-slow: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'playwright>=1.45'
	$(BIN)/python -m pytest -n 0 -m slow tests/figures/report/test_browser.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/run.py --device $(DEVICE) --out results

profile: $(READY)
	$(BIN)/python benchmarks/limits.py --out benchmarks

evidence: $(READY)
	$(BIN)/lorakappa llm compare --study tiny --dry-run --out results
	$(BIN)/lorakappa llm compare --study tiny --out results --evidence llm/evidence/tiny

simulations: $(READY)
	$(BIN)/lorakappa synthetic evidence --dry-run --out results
	$(BIN)/lorakappa synthetic evidence --out results --evidence synthetic/evidence

figures: $(READY)
	for experiment in manifold kappa-histogram rates convergence phase settle duel ratios gauges; do \
		$(BIN)/lorakappa synthetic $$experiment --out results || exit 1; done
	$(BIN)/lorakappa llm compare --model tiny --out results
	$(BIN)/lorakappa llm finetune lora --model tiny --rank 4 --learning-rate 0.017 --out results/adapter
	$(BIN)/lorakappa llm curvature results/adapter --layers all --no-hessian --out results
	$(BIN)/lorakappa llm audit results/adapter --json results/audit.json
	test ! -d llm/evidence/tiny || $(BIN)/lorakappa llm report llm/evidence/tiny --json results/study.json
	$(BIN)/lorakappa figures all --from results --out figures/gallery --format png

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
