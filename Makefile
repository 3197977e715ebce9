# pretrain: make quickstart trains a first model, make test runs every test. Both set up what they need first; a second
# run sets nothing up again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build quickstart test lint bench golden clean

# The Rust library behind the tokenizer lies in the user's cache; its build script prints where. Every recipe that links
# it begins with $(RUST).
RUST = library=$$(sh tokenizer/rust/build.sh) && export CGO_LDFLAGS="-L$$library" &&

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: build ## install what is missing: the tokenizer's Rust library, the XLA plugin
	@bin/pretrain setup || echo "no XLA plugin: the pure-Go backend, about 12 times slower, is used until one is there"

build: ## bin/pretrain
	@$(RUST) go build -o bin/pretrain ./cmd/pretrain

quickstart: setup ## set up and train a first model (6 minutes on 2 cores)
	@bin/pretrain --config quickstart

test: setup ## set up and run every test
	@$(RUST) go test -timeout 30m ./...

lint: ## vet, and the linters of .golangci.yml with its layer rules
	@$(RUST) go vet ./...
	@$(RUST) go tool golangci-lint run

bench: setup ## benchmarks of the packages
	@$(RUST) go test -run '^$$' -bench . -benchtime 1s ./...

golden: ## regenerate bench/golden from its independent PyTorch implementation
	@cd bench/golden && python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt && .venv/bin/python make_golden.py

clean: ## remove what was built in the checkout; caches stay
	@rm -rf bin
