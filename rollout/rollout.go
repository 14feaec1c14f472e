// Package rollout is the machine that carries a release up a traffic ladder
// and brings it back when it slips.
//
// The rules of the package:
//   - It is pure: no clock, no I/O, no goroutine, no randomness. Time enters
//     only as Event.At. The same plan, state and event give the same state.
//   - Next is total. Whatever the event, it returns a state; events that do not
//     fit are ignored.
//   - State.Outbox is all the work that is wanted now. The shell (package
//     rollout/engine) first appends the state, then starts what is missing and
//     cancels what is no longer wanted; what comes of it returns as events.
//   - An effect keeps the ID it was minted with when first wanted, across
//     crashes. An event that answers an effect that is not in the Outbox is
//     ignored.
//   - Nothing gates a rollback.
//
// Begin with transitions.go: what each event does in each phase, and which phases may
// follow. testdata/transitions.md shows the same by phase.
//
// Admit decides, with the same rules, who may move an endpoint.
//
// The package does not know how traffic is moved, metrics are read or people
// are asked: see rollout/traffic, analysis.Source and notifier.
package rollout
