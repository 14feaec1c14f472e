package access

// A ForbiddenError is an act that somebody may not do, or that cannot be done now.
type ForbiddenError struct {
	// Why says so in a clause, for the person.
	Why string
}

// Error is why.
func (e *ForbiddenError) Error() string { return e.Why }
