# What a newcomer needs. `make` alone lists the targets.
GO ?= go
BIN := .bin
SEEDS ?= 2000
FUZZTIME ?= 20s

.PHONY: help build test race lint fuzz cover golden verify sim bench-decisions

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

build:           ## belay and belayd into .bin, static
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/belay ./cmd/belayd

test:            ## every test once, shuffled
	$(GO) test -shuffle=on ./...

race:            ## every test under the race detector
	$(GO) test -race -shuffle=on ./...

lint: $(BIN)/golangci-lint   ## the linters of .golangci.yml, with and without the tag crashpoints
	$(BIN)/golangci-lint run ./...
	$(BIN)/golangci-lint run --build-tags crashpoints $$(grep -rlE --include='*.go' '^//go:build .*crashpoints' cmd | xargs -n1 dirname | sort -u | sed 's,^,./,')

$(BIN)/golangci-lint: .tools/go.mod
	cd .tools && $(GO) build -o ../$(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/bbolt: .tools/go.mod   # the repair commands of store/bolt's errors are run by it
	cd .tools && $(GO) build -o ../$(BIN)/bbolt go.etcd.io/bbolt/cmd/bbolt

fuzz:            ## every fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

cover:           ## test coverage as a page
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -html=coverage.out -o coverage.html

golden:          ## write the goldens again; read the difference like code
	$(GO) test ./rollout -run Scenarios -update

verify:          ## modules as their sums say, and tidy
	$(GO) mod verify && $(GO) mod tidy -diff

sim:             ## the seeded simulator; SEEDS=n
	$(GO) test ./rollout/sim -run Seeds -seeds $(SEEDS) -v -timeout 60m

bench-decisions: ## the tables of analysis/README.md
	$(GO) test ./analysis -run TestDecisions -decisions=full -update -timeout 60m -v
