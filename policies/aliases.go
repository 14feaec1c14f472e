package policies

import "github.com/belayd/belay/policies/document"

// What config and others read with: the names of package document, for those that
// knew them here.
type (
	Problem  = document.Problem
	Problems = document.Problems
	Raw      = document.Raw
	Format   = document.Format
)

// The names of package document, as above.
const (
	SeverityError = document.SeverityError
	MaxProblems   = document.MaxProblems
	MaxBytes      = document.MaxBytes
	CodeUnknown   = document.CodeUnknown
	CodeMeaning   = document.CodeMeaning
)

// The functions of package document, as above.
var (
	Decode    = document.Decode
	Locate    = document.Locate
	SchemaOf  = document.SchemaOf
	Reference = document.Reference
)
