// Package analysis says what numbers mean: it turns readings of metrics into
// verdicts about guardrails.
//
// The rules of the package:
//   - It is pure. No clock, no I/O, no goroutine, no randomness: the same panel,
//     evidence, moment and readings give the same verdicts on every machine of
//     one architecture, so that a decision can be replayed and explained.
//   - Numbers that are not numbers never count as good. A reading that is
//     absent, stale, NaN, infinite, partial or failed yields no-data or error.
//   - Evidence is additive and consumes every interval at most once.
//
// The statistics proper (e-processes, confidence sequences, the planner) live
// in analysis/sequential; this package decides which test a guardrail gets and
// what its result means for the rollout. It does not decide what happens next:
// that is package rollout.
package analysis
