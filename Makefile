# Tidemill: one command for each thing that is done often. `make help` lists them.

# Where `make demo` keeps its state. Remove the folder to begin anew.
DEMO_STATE ?= target/demo
# More flags for the demo, as in `make demo DEMO_ARGS=--exit-at-end`.
DEMO_ARGS ?=

# Where the broker of `make kafka` listens, and keeps its data. Remove the folder to begin anew.
KAFKA_PORT ?= 9092
KAFKA_DATA ?= target/kafka/data

# The tests that `make test` and `make test-long` run: a folder or file, as in `PART=crashes`; all without it.
PART ?=
# What `make fuzz` runs: a target of fuzz/src, each in turn without it; and for how many seconds each.
TARGET ?=
SECONDS_EACH ?= 60
# What `make bench-compare` compares with (benches/baseline.json without it), and which benchmarks.
BASE ?=
BENCH ?=

# A shell that has not read rustup's settings finds cargo too.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-kafka setup-test setup-book page demo kafka test test-long fuzz bench bench-compare check hooks lint doc book deny

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## check what a build needs; install it (as root on Debian or Ubuntu)
	@scripts/setup.sh

setup-kafka: ## the same, and Java and Maven for a broker
	@scripts/setup.sh --with-kafka

setup-test: ## the same, and a browser for the page
	@scripts/setup.sh --with-kafka --with-browser

page: ## build the web page into ui/dist, if Node.js 20.19+ (of 20) or 22.12+ is here
	@scripts/page.sh

demo: setup page ## replay a day of Wikipedia edits, with a page to watch them on port 7070
	@mkdir -p $(dir $(DEMO_STATE))
	cargo run --release --example wiki_trends -- run --state $(DEMO_STATE) $(DEMO_ARGS)

kafka: setup-kafka ## run a Kafka broker on this machine, until Ctrl-C
	@scripts/kafka.sh serve --port $(KAFKA_PORT) --data $(KAFKA_DATA)

test: setup-test page ## run all tests, those of the documentation too; PART=<name> only a part
	@if [ -d ui/node_modules ]; then cd ui && npm --silent test; fi
	scripts/test.sh $(PART)
	scripts/check-dependencies.sh

test-long: setup-test page ## the tests in Rust, with every crash under every fault of a broker, and more at random
	TIDEMILL_LONG=1 scripts/test.sh $(PART)

fuzz: ## let libFuzzer look for inputs that break a fuzz target, where cargo-fuzz is; TARGET=<name> only one
	@scripts/fuzz.sh "$(TARGET)" "$(SECONDS_EACH)"

bench: setup-kafka ## measure the word count, Kafka, queries, each operator, what pages cost, and starts
	cargo bench --bench word_count
	cargo bench --bench kafka
	cargo bench --bench query
	cargo bench --bench operators
	cargo bench --bench page
	cargo bench --bench start

bench-compare: setup-kafka ## compare the benchmarks BENCH with those of the commit BASE; without BASE, with the baseline
	@$(if $(BASE),scripts/bench-compare.sh $(BASE) $(BENCH),scripts/bench-baseline.sh $(BENCH))

check: setup ## what a change needs before it is sent, in a minute after the first build: formatting, clippy, the house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release -- -D warnings
	cargo test --quiet --release --workspace --test house

hooks: ## check each commit of this clone: formatting, spelling, the house rules
	git config core.hooksPath scripts/hooks
	@echo "scripts/hooks/pre-commit runs before each commit; git config --unset core.hooksPath ends that"

lint: setup ## formatting, and clippy's warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release -- -D warnings
	@# Without the features that only tests turn on: what a plain build compiles.
	cargo clippy --workspace --release -- -D warnings

doc: setup ## build the documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --release

# Nothing that a build or a test needs: only `make book` and `make setup-book` use it.
MDBOOK := 0.5.4

setup-book: ## install mdBook into cargo's folder, for `make book`
	cargo install mdbook --locked --version $(MDBOOK)

book: ## build the book (docs/book) into target/book, where mdBook is
	@if mdbook --version >/dev/null 2>&1; then \
	  mdbook build docs/book && echo "The book is built: open target/book/index.html"; \
	else \
	  echo "mdBook is not installed, so the book was not built. Install it: make setup-book"; \
	  echo "Its chapters can be read without it: docs/book/src/SUMMARY.md"; \
	  exit 1; \
	fi

deny: ## licences, advisories and origins of the dependencies
	@if cargo deny --version >/dev/null 2>&1; then \
	  cargo deny check; \
	else \
	  echo "cargo-deny is not installed, so nothing was checked. Install it: cargo install --locked cargo-deny@^0.18"; \
	fi
