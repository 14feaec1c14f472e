# What a newcomer needs. `make` alone lists the targets.
GO ?= go
BIN := .bin
SEEDS ?= 2000
INPUTS ?= 1000

VULN ?= v1.1.4

.PHONY: help build release vuln test race lint fuzz cover golden verify sim attack bench-decisions bench-seasons bench-reaction bench-scale

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

build:           ## belay and belayd into .bin, static
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/belay ./cmd/belayd

release:         ## the programs, their SBOM and sums into .bin/release; built twice, with nothing in common, and compared
	rm -rf $(BIN)/release $(BIN)/again
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o $(BIN)/release/ ./cmd/belay ./cmd/belayd
	cache=$$(mktemp -d) && CGO_ENABLED=0 GOCACHE=$$cache $(GO) build -trimpath -ldflags="-s -w" -o $(BIN)/again/ ./cmd/belay ./cmd/belayd && rm -rf $$cache
	for p in belay belayd; do cmp $(BIN)/release/$$p $(BIN)/again/$$p || exit 1; done; rm -rf $(BIN)/again
	$(GO) version -m -json $(BIN)/release/belayd $(BIN)/release/belay | jq -s -f deploy/sbom.jq >$(BIN)/release/sbom.cdx.json
	cd $(BIN)/release && sha256sum belay belayd sbom.cdx.json | tee SHA256SUMS

vuln:            ## known vulnerabilities in what is built; says when the database cannot be asked
	@VULN=$(VULN) .ci/vuln

test:            ## every test once, shuffled
	$(GO) test -shuffle=on -timeout 30m ./...

race:            ## every test under the race detector
	$(GO) test -race -shuffle=on -timeout 30m ./...

lint: $(BIN)/golangci-lint   ## the linters of .golangci.yml, with and without the tag crashpoints
	$(BIN)/golangci-lint run ./...
	$(BIN)/golangci-lint run --build-tags crashpoints $$(grep -rlE --include='*.go' '^//go:build .*crashpoints' cmd | xargs -n1 dirname | sort -u | sed 's,^,./,')

$(BIN)/golangci-lint: .tools/go.mod
	cd .tools && $(GO) build -o ../$(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/bbolt: .tools/go.mod   # the repair commands of store/bolt's errors are run by it
	cd .tools && $(GO) build -o ../$(BIN)/bbolt go.etcd.io/bbolt/cmd/bbolt

fuzz:            ## INPUTS (1,000) inputs for every fuzz target; one that fails or cannot finish is red
	@.ci/fuzz $(INPUTS)

cover:           ## test coverage as a page
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -html=coverage.out -o coverage.html

golden:          ## write the goldens again; read the difference like code
	$(GO) test ./rollout -run Scenarios -update

verify:          ## modules as their sums say, and tidy
	$(GO) mod verify && $(GO) mod tidy -diff

sim:             ## the seeded simulator; SEEDS=n
	$(GO) test ./rollout/sim -run Seeds -seeds $(SEEDS) -v -timeout 60m

attack:          ## rollbacks under attack, held to 3 x the idle p95; wants a quiet machine
	$(GO) test ./cmd/internal/blackbox -run TestRollbackUnderAttack -strict -v -count=1 -timeout 30m

bench-reaction:  ## the time from a failure in Prometheus to the traffic call; wants a real prometheus and a quiet machine
	$(GO) test ./cmd/internal/blackbox -run xxx -bench Reaction -benchtime 1x -v -timeout 15m

SIZES ?= 10,100,500,2000
STEADY ?= 2m
bench-scale:     ## what SIZES rollouts cost and how fast they are rolled back, watched for STEADY; wants a quiet machine
	$(GO) test ./cmd/internal/blackbox -run xxx -bench Scale -benchtime 1x -scale.sizes=$(SIZES) -scale.steady=$(STEADY) -v -timeout 180m

bench-decisions: ## the tables of analysis/README.md
	$(GO) test ./analysis -run TestDecisions -decisions=full -update -timeout 60m -v

SEASONS ?= 40
bench-seasons:   ## whole rollouts in worlds that are not calm, SEASONS of them a cell, printed
	$(GO) test ./analysis -run xxx -bench SeasonTables -benchtime 1x -seasons=$(SEASONS) -timeout 180m
