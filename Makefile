# pretrain: `make quickstart` trains a first model, `make test` runs every test. Both set up what is missing first; a second
# run finds everything there. Needed beforehand: Go, Rust (cargo), a C compiler, make, python3. What is downloaded or built
# lies in the user's cache and library folders; the checkout only gets bin/.
.DEFAULT_GOAL := help
.PHONY: help tools setup build quickstart test pure race lint bench bench-data gpu-bench gpu-bench-check golden clean

# The packages that need neither cgo nor GoMLX, so that data work runs on any machine. data/stats/baseline links liblzma.
PURE = $$(go list ./schedule/... ./data/... ./tokenizer ./internal/atomicfile ./internal/modelfile ./internal/openai ./internal/prng ./internal/problem \
	./internal/chart ./internal/quickjson ./internal/safetensors ./internal/section ./internal/units ./internal/vfs ./train/ablate | grep -v /baseline)
LINT_VERSION = v2.15.0
# As the program itself has it: see cacheDir in cmd/pretrain.
CACHE = $${PRETRAIN_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/pretrain}

# Every recipe that links the tokenizer's Rust library begins with $(RUST): its build script builds it where the cache does
# not have it and prints the folder. Linker flags of the user's own stay.
RUST = rust=$$(sh tokenizer/rust/build.sh) && export CGO_LDFLAGS="$$(go env CGO_LDFLAGS) '-L$$rust'" &&

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

tools:
	@ok=true; \
	need() { command -v "$$1" >/dev/null 2>&1 || { ok=false; echo "setup: $$1 is not on PATH; to mend it: $$2" >&2; }; }; \
	need go "install Go 1.26 or newer"; \
	need cargo "install Rust 1.87 or newer (rustup, or your system's packages)"; \
	need cc "install a C compiler (Debian, Ubuntu: apt-get install build-essential; macOS: xcode-select --install)"; \
	$$ok || exit 1; \
	go list -m >/dev/null || { echo "setup: this Go cannot build the module (see above); to mend it: install the Go that it names, or set GOTOOLCHAIN=auto so that go fetches it" >&2; exit 1; }; \
	set -- $$(go env CC); need "$$1" "install it, or set CC to the C compiler you have (CC=cc)"; $$ok || exit 1; \
	command -v python3 >/dev/null 2>&1 || echo "setup: python3 is not on PATH: if there is no XLA plugin yet, it may not be found without pip; to mend it: install python3 and pip" >&2

setup: build ## install what is missing: the tokenizer's Rust library, bin/pretrain, the XLA plugin
	@bin/pretrain setup || echo "setup: no XLA plugin could be installed (see above). The pure-Go backend is used, about 12 times slower; make setup tries again." >&2

build: tools ## bin/pretrain
	@$(RUST) { [ -x bin/pretrain ] || echo "setup: building bin/pretrain (a minute or two the first time)" >&2; } && \
	go build -o bin/pretrain ./cmd/pretrain

quickstart: setup ## set up and train a first model (6 minutes on 2 cores after set-up)
	@bin/pretrain --config quickstart

test: setup pure ## set up and run every test; where CI is set, race and lint too
	@$(RUST) go test -timeout 30m ./...
	$(if $(CI),@$(MAKE) --no-print-directory race lint)

race: tools ## the tests of the packages with goroutines of their own, under the race detector
	@$(RUST) go test -race -timeout 30m ./data/... ./internal/atomicfile ./internal/plugin ./internal/vfs ./tokenizer/... \
		./train/checkpoint ./train/feed ./train/metrics

pure: tools
	@CGO_ENABLED=0 go build $(PURE)
	@! CGO_ENABLED=0 go list -deps $(PURE) | grep '^github.com/gomlx' || { echo "pure: a package of PURE in the Makefile imports GoMLX (above)" >&2; exit 1; }

lint: tools ## vet and the linters of .golangci.yml, with the layer rules
	@dir="$(CACHE)/golangci-lint/$(LINT_VERSION)-$$(go env GOVERSION)"; \
	if [ ! -x "$$dir/golangci-lint" ]; then \
		echo "lint: building golangci-lint $(LINT_VERSION) (once; two to four minutes)" >&2; \
		GOBIN="$$dir" CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) || \
			{ echo "lint: golangci-lint cannot be built (see above); to mend it: check the network and GOPROXY ($$(go env GOPROXY))" >&2; exit 1; }; \
	fi; \
	$(RUST) "$$dir/golangci-lint" run

bench: setup ## benchmarks of the packages
	@$(RUST) go test -run '^$$' -bench . -benchtime 1s ./...

bench-data: build ## measure data preparation beside datatrove, fastText, …; DATA=FOLDER [PARTS="chain compare"], see bench/data/README.md
	@[ -n "$(DATA)" ] || { echo "bench-data: DATA is missing; to mend it: make bench-data DATA=FOLDER, with the files that bench/data/README.md names" >&2; exit 2; }
	@python3 -m venv "$(CACHE)/bench-data-venv"
	@"$(CACHE)/bench-data-venv/bin/pip" install -q -r bench/data/requirements.txt
	@$(RUST) PYTHON="$(CACHE)/bench-data-venv/bin/python" bench/data/run.sh "$(DATA)" $(PARTS)

gpu-bench: tools ## pack what measures training on a GPU machine without network: bin/gpu-bench; DATA=FOLDER for other text than go:std
	@$(RUST) bench/gpu/bundle.sh bin/gpu-bench "$(or $(DATA),go:std)"

gpu-bench-check: setup ## unpack it and run every part with tiny models on the CPU; PYTHON=… that has JAX and PyTorch (else 5 GB of wheels)
	@[ -f bin/gpu-bench/gpu-bench.tar.gz ] || $(MAKE) --no-print-directory gpu-bench
	@python="$(PYTHON)"; if [ -z "$$python" ]; then \
		python="$(CACHE)/gpu-bench-venv/bin/python"; python3 -m venv "$(CACHE)/gpu-bench-venv" && "$$python" -m pip install -q -r bench/gpu/requirements.txt || exit 1; \
	fi; PYTHON="$$python" bench/gpu/check.sh bin/gpu-bench/gpu-bench.tar.gz

golden: ## write bench/golden/data again, from its independent PyTorch implementation (5 GB of wheels the first time)
	@python3 -m venv "$(CACHE)/golden-venv"
	@"$(CACHE)/golden-venv/bin/pip" install -q -r bench/golden/requirements.txt
	@cd bench/golden && "$(CACHE)/golden-venv/bin/python" make_golden.py && "$(CACHE)/golden-venv/bin/python" significance.py && \
		"$(CACHE)/golden-venv/bin/python" scaling.py

clean: ## remove what was built in the checkout; caches stay
	@rm -rf bin
