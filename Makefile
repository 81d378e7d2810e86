# Names of the ways to work on cais. `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
TARGET := x86_64-unknown-linux-gnu
PREFIX ?= /usr/local
export PATH := $(HOME)/.cargo/bin:$(PATH)
.DEFAULT_GOAL := build
.PHONY: setup setup-test build demo test test-long lint bench bench-peers install clean

setup: ## install what building needs (Debian packages, Rust)
	@scripts/setup build

setup-test: ## install what the tests need besides
	@scripts/setup test

build: setup ## target/release/cais: one static binary
	cargo build --release --package cais
	@mkdir -p target/release && ln -f target/$(TARGET)/release/cais target/release/cais

demo: build ## make images, build one, run containers, show them, clean up
	@scripts/setup images
	@scripts/demo target/release/cais

lint: setup ## format, clippy, the checks of the house
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask all

test: setup setup-test ## all tests that take minutes; as root
	@scripts/test

test-long: setup setup-test ## soak and kill tests
	@scripts/test-long

bench: build ## compare with the peers that are installed
	@scripts/setup images
	cargo build --release --package cais-testkit --bin load
	@ln -f target/$(TARGET)/release/load target/release/load
	@bench/run target/release/cais

bench-peers: ## install the peers that bench compares with
	@scripts/setup peers

install: build
	install -D -m 0755 target/release/cais $(DESTDIR)$(PREFIX)/bin/cais

clean:
	cargo clean
