# `make` alone lists the commands. Each one sets up what it needs in .venv.

PYTHON ?= python3
TESTS ?= not heavy
SECONDS ?= 20
BIN := .venv/bin
RUN := $(BIN)/python main.py -c PP-LCNet_x1_0_ML -o Global.output=demo/output
DATA := demo/scenes
# Of demo-photos: other photographs need another folder.
OUT ?= demo/photos
export OUT
# Where both demos start; paddlex_ml/data/demo.py names the same.
START := Train.pretrain_weight_path=starter
# loadfile: tests of a file share its fixtures. The files keep the order of tests/conftest.py.
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder --max-worker-restart=0
# Without compiling: the half of the modules that no command needs would take its time.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile
# The notice of Material about its successor: docs/decisions.md has what follows from it.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
# Checks before each commit, unless this is no clone or it has a hook of its own.
HOOK := if [ -e .git ] && [ ! -e "$$(git rev-parse --git-path hooks/pre-commit)" ]; then \
    $(BIN)/pre-commit install || echo "the checks before each commit could not be installed"; fi

# Images of containers often set it. Then each of hundreds of processes would compile all modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-photos photos-are-named docs quick lint test check coverage fuzz audit
.PHONY: release clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:  ## list these commands
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/demo $(DATA)  ## draw a data set, train on it, evaluate, predict: about five minutes
	@echo "== 1 of 4: check the data set"
	$(RUN) -o Global.mode=check_dataset -o Global.dataset_dir=$(DATA)
	@echo "== 2 of 4: train; watch the mAP rise (about four minutes)."; \
	 echo "   The command behind next: has the shipped options; the demo goes on with options of its own."; \
	 echo "   Ten epochs are few: twice the rate, no RandAugment, plain cross-entropy."
	@if grep -qs '"done_flag": true' demo/output/train_result.json; then \
	    echo "   demo/output holds a finished training: it stays. To train again, rename that folder."; \
	 else set -x; $(RUN) -o Global.mode=train -o Global.dataset_dir=$(DATA) -o $(START) \
	    -o Train.image_size=128 -o Train.batch_size=16 -o Train.epochs_iters=10 \
	    -o Train.learning_rate=0.002 -o Train.augment.randaugment=false \
	    -o Train.head_lr_mult=0.1 -o Train.loss.gamma_neg=0 -o Train.loss.clip=0 \
	    -o Train.save_interval=10 -o Train.resume_path=auto ; fi
	@echo "== 3 of 4: evaluate, and put the tuned thresholds into the exported model"
	$(BIN)/python main.py -c demo/output/config.yaml -o Global.mode=evaluate \
	    -o Evaluate.save_threshold=true
	@echo "== 4 of 4: predict on images that the training has not seen"
	$(BIN)/python main.py -c demo/output/config.yaml -o Global.mode=predict \
	    -o 'Predict.input=$(DATA)/images/00000?.jpg'
	@echo
	@echo "look at: demo/output/check_dataset/report.html     the data set"
	@echo "         demo/output/curves.png                    the curve"
	@echo "         demo/output/evaluate/report.html          what the model can do, and what to do next"
	@echo "         demo/output/predict/                      the predictions, with names and scores"
	@echo "next:    your own photographs:  make demo-photos DIR=path/to/my_photos"
	@echo "         your own data set:     $(BIN)/paddlex-ml -c PP-LCNet_x1_0_ML \\"
	@echo "                                  -o Global.mode=check_dataset -o Global.dataset_dir=path/to/my_set"

demo-photos: photos-are-named .venv/demo  ## the same on your own folder: make demo-photos DIR=my_photos
	@echo "== 1 of 2: recognise and check what is there, train, evaluate"
	@set -x; $(BIN)/paddlex-ml --data "$$DIR" -o Global.mode=train -o "Global.output=$$OUT" \
	    -o $(START) -o Evaluate.save_threshold=true -o Train.resume_path=auto
	@echo "== 2 of 2: predict on images that the training has not seen"
	@# Complete lists of ours are used where they are: the result of the check names the folder.
	@checked=$$($(BIN)/python -c "import json, sys; print(json.load(open( \
	    sys.argv[1], encoding='utf-8'))['dataset_path'])" "$$OUT/check_dataset_result.json") || exit 2; \
	 set -x; $(BIN)/paddlex-ml -c "$$OUT/config.yaml" -o Global.mode=predict \
	    -o "Predict.input=$$checked/val.txt"
	@echo
	@echo "look at: $(OUT)/check_dataset/report.html     the data set"
	@echo "         $(OUT)/evaluate/report.html          what the model can do, and what to do next"
	@echo "         $(OUT)/predict/                      the predictions, with names and scores"

# Before .venv is made, which takes minutes.
photos-are-named:
	@[ -n "$$DIR" ] || { echo "error: make demo-photos needs a folder of photographs" >&2; \
	    echo "  fix: make demo-photos DIR=path/to/my_photos" >&2; exit 2; }
	@[ -e "$$DIR" ] || { echo "error: $$DIR does not exist" >&2; \
	    echo "  fix: make demo-photos DIR=path/to/my_photos" >&2; exit 2; }

docs: .venv/docs  ## the pages as a site in build/site, in English and Chinese, readable offline
	$(MKDOCS) -f website/mkdocs.yml
	$(MKDOCS) -f website/mkdocs_zh.yml
	@echo "open: build/site/index.html"

quick: lint  ## lint, types, spelling and the fast tests: under a minute; before each commit
	$(PYTEST) -n 2 -m quick

test: .venv/test  ## all tests except those of the largest models and long repetitions
	$(PYTEST) -n 3 -m "$(TESTS)"

check: .venv/test  ## lint, types, spelling, all tests, coverage of the fast ones: what CI runs
	$(MAKE) --jobs=2 lint coverage
	$(PYTEST) -n 3 -m "not quick" --durations=20

coverage: .venv/test  ## branch coverage of the fast tests
	$(PYTEST) -n 2 -m quick --durations=20 --cov --cov-report=term:skip-covered

# By hand, before a release: the list of known weaknesses changes without a commit, CI must not.
audit: .venv/test  ## known weaknesses of the packages in .venv; needs the network
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --disable-pip-version-check --quiet pip-audit
	$(BIN)/python -m pip list --format=freeze --exclude-editable > .venv/audit/packages.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r .venv/audit/packages.txt

fuzz: .venv/test  ## damaged bytes through each reader of files, for 20 s: make fuzz SECONDS=3600
	$(BIN)/python -m tests.fuzz.run --each --seconds $(SECONDS) $(READERS)

release: .venv/test  ## check, build and try a release: make release VERSION=0.2.0
	$(BIN)/python release/release.py "$(VERSION)"

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

$(DATA): .venv/demo
	$(BIN)/python dataset_tools/make_demo_dataset.py --output $(DATA)
	@touch $(DATA)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	    || { echo "error: Python 3.10, 3.11, 3.12 or 3.13 is needed, $(PYTHON) is another:"; \
	         $(PYTHON) --version; echo "  fix: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "== set up .venv (PaddlePaddle is about 200 MB: this takes a minute or two)"
	$(PYTHON) -m venv .venv

.venv/demo: setup.cfg | .venv/bin/python
	$(PIP) -e '.[cpu,excel]'
	@touch $@

.venv/docs: website/requirements.txt | .venv/bin/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: the site needs Python 3.11 or later, .venv has another:"; \
	         $(BIN)/python --version; echo "  fix: make clean; make docs PYTHON=python3.11"; exit 2; }
	$(PIP) -r website/requirements.txt
	@touch $@

.venv/test: setup.cfg website/requirements.txt | .venv/bin/python
	$(PIP) -e '.[dev]' -r website/requirements.txt
	@$(HOOK)
	@touch $@

clean:  ## remove everything that these commands made
	rm -rf .venv demo build dist *.egg-info
