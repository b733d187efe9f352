# Type make to see what there is. The logic of the checks is in internal/tools/check, one function for each step.
.DEFAULT_GOAL := help
CHECK := internal/tools/check

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: test
test: ## do everything CI does; installs what it needs, or says what to install
	@$(CHECK)

.PHONY: lint
lint: ## run gofmt, go vet, staticcheck and golangci-lint
	@$(CHECK) format vet staticcheck golangci

.PHONY: race
race: ## run all tests under the race detector, in random order
	@$(CHECK) packages race

.PHONY: plain
plain: ## run those tests without the race detector that differ under it, such as those of allocations
	@$(CHECK) packages plain

.PHONY: integration
integration: ## run the tests with programs and libraries that the library must not depend on
	@$(CHECK) packages integration

.PHONY: dist
dist: ## make what a release ships, in the directory dist: VERSION says which, such as v1.2.3
	GOWORK=off go -C internal/tools run ./dist -root $(CURDIR) -out $(CURDIR)/dist -version '$(VERSION)'

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZTIME (10s)
	@FUZZBUDGET=0 FUZZTIME=$(or $(FUZZTIME),10s) $(CHECK) fuzz

.PHONY: vuln
vuln: ## look for known vulnerabilities that the code can reach
	@$(CHECK) vuln

.PHONY: tidy-check
tidy-check: ## check that go.mod and go.sum are tidy, in all modules
	@$(CHECK) tidy

.PHONY: outdated
outdated: ## tell which direct requirements of the modules are behind their newest releases
	@$(CHECK) outdated

.PHONY: examples
examples: ## run each example to its end
	@$(CHECK) examples

.PHONY: surface
surface: ## rewrite the lists of exported names in internal/archtest/surface
	go test ./internal/archtest -run '^TestSurface$$' -count=1 -update

.PHONY: api
api: ## count the functions of the DataScript reference that work, or say that they are not supported
	@out=$$(go test ./datascript -run '^TestConformance$$' -count=1 -v) || { echo "$$out"; exit 1; }; echo "$$out" | sed -n 's/.*conformance: //p'

.PHONY: assurance
assurance: ## count the guarantees of internal/assurance/assurance.md that a test proves
	@out=$$(go test ./internal/assurance -run '^TestAssurance$$' -count=1 -v) || { echo "$$out"; exit 1; }; echo "$$out" | sed -n 's/.*_test.go:[0-9]*: //p; s/^        \( *[0-9]\)/\1/p'

.PHONY: parity
parity: ## count the features of internal/assurance/parity.md that a test proves, in each group
	@out=$$(go test ./internal/assurance -run '^TestParity$$' -count=1 -v) || { echo "$$out"; exit 1; }; echo "$$out" | sed -n 's/.*_test.go:[0-9]*: //p; s/^        \( *[0-9]\)/\1/p'

.PHONY: hostile
hostile: ## run every hostile script of datascript in a process of its own, with 512 MiB of memory
	go test ./datascript -run '^TestHostileProcess$$' -count=1 -v -args -hostile

.PHONY: search
search: ## look for calls that cost or make more than scripts are charged, nonces that come again, differences from Lua 5.1, and requests that other proxies refuse
	@$(CHECK) packages data
	go test ./datascript -run '^(TestAmplification|TestPeakBytes|TestSealNonces)$$' -count=1 -v -timeout 120m -args -full
	go test ./internal/lua51 -run '^(TestConstructors|TestDifferential)$$' -count=1 -v -timeout 120m -args -full
	GOWORK=off go -C internal/integration test -run '^TestRequestDifferences$$' -count=1 -v -timeout 30m -args -full

.PHONY: load
load: ## run the tests of load with 1,200,000 requests each, 100,000 that must not be sent twice, what takes memory in processes with limits, and what can move a client in full
	@$(CHECK) packages data
	go test ./internal/acceptance ./internal/certs ./lbpool -run '^(TestChangesUnderLoad|TestReloads|TestExchangeUnderLoad|TestNeverTwice|TestQueueStress|TestUpdateLosesNothing|TestScriptsUnderLoad|TestUploads|TestKeptVariables|TestHoards)$$' -count=1 -v -timeout 60m -args -full
	go test ./persistence/redisstore -run '^(TestNothingStale|TestOneClaimWins)$$' -count=1 -v -timeout 60m -args -long
	GOWORK=off go -C internal/integration test ./linear -run '^TestLinearizable$$' -count=1 -v -timeout 60m -args -long
	go test ./internal/acceptance/torture -run '^TestTorture$$' -count=1 -v -timeout 60m -args -full

.PHONY: nightly
nightly: load hostile ## run what takes too long for test, in an hour: load, hostile, upgrades of the binary, all tests without the race detector, fuzzing, and the day's part of the search for differences between proxies
	go test ./cmd/limpet -run '^TestUpgradesUnderLoad$$' -count=1 -v -timeout 60m -args -full
	CI=true go test -shuffle=on -timeout 60m ./... ./cmd/limpet/... ./metrics/... ./tracing/...
	CI=true GOWORK=off go -C internal/integration test -shuffle=on -timeout 60m ./...
	@FUZZBUDGET=600 FUZZTIME=20s $(CHECK) fuzz
	GOWORK=off go -C internal/integration test -run '^TestRequestDifferences$$' -count=1 -v -timeout 60m -args -full -from $$(expr $$(date +%j) '*' 20000) -requests 20000

.PHONY: soak
soak: ## run mixed traffic with faults for SOAK (1h): memory, goroutines and descriptors must stay where they are
	go test ./internal/acceptance -run '^TestSoak$$' -count=1 -v -timeout 25h -args -soak $(or $(SOAK),1h)

.PHONY: cover
cover: ## print the share of statements that the tests cover, by package
	go test -cover ./... ./cmd/limpet/... ./metrics/... ./tracing/...

.PHONY: bench
bench: ## compare with peers and internal/bench/baseline.txt: BENCH selects, COUNT passes, SAVE and BASELINE name files
	GOWORK=off go -C internal/bench run ./compare -bench '$(or $(BENCH),.)' -count $(or $(COUNT),5) $(if $(SAVE),-save $(abspath $(SAVE))) $(if $(BASELINE),-baseline $(abspath $(BASELINE)))

.PHONY: bench-e2e
bench-e2e: ## compare proxies under load: limpet, ReverseProxy, HAProxy, nginx, Caddy; E2E has flags, such as "-rounds 1"
	GOWORK=off go -C internal/bench build -o $(or $(TMPDIR),/tmp)/limpet-e2e ./e2e
	$(or $(TMPDIR),/tmp)/limpet-e2e $(E2E)
