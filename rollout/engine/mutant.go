package engine

// A mutant removes one protection of the engine, so that tests can show that
// they would notice. It is zero outside of tests.
type mutant uint

const (
	// mutantEager starts effects before the append that asked for them returned.
	mutantEager mutant = 1 << iota
	// mutantUnclaimed sends forward calls without looking at the endpoint's record.
	mutantUnclaimed
	// mutantUntrusted sends forward calls without a trusted lease.
	mutantUntrusted
	// mutantAssume takes an append of unknown outcome for one that succeeded.
	mutantAssume
	// mutantOverwrite appends after whatever the head is when it lost a race.
	mutantOverwrite
	// mutantQueued lets rollbacks wait for a free slot of their router.
	mutantQueued
	// mutantStuck waits for the append of a rollback for ever.
	mutantStuck
	// mutantKeep does not cancel forward calls that are no longer wanted.
	mutantKeep
	// mutantNotices lets rollbacks wait for the messages of their rollout.
	mutantNotices
	// mutantBlind reads nothing back after a traffic call.
	mutantBlind
	// mutantForsake takes adapters away that open rollouts need.
	mutantForsake
	// mutantDeaf stops an inbox before the one in its place is heard.
	mutantDeaf
)

// has reports whether the protection is removed.
func (m mutant) has(x mutant) bool { return m&x != 0 }
