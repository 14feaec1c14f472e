package policies

// The codes of warnings.
const (
	WarnUnresolved = "W100" // a name that only belayd's config can define
)

// descriptions say what the codes mean.
var descriptions = map[string]string{
	CodeSyntax:     "The file is not one YAML document.",
	CodeBounds:     "The input is too large or nested too deep.",
	CodeRefused:    "Anchors, aliases, merge keys and tags are not part of the language.",
	CodeUnknown:    "There is no such key.",
	CodeDuplicate:  "A key or a name is given twice.",
	CodeMissing:    "Something required is missing.",
	CodeValue:      "A value cannot be read.",
	CodeName:       "Nothing defines this name.",
	CodeMeaning:    "Values contradict each other.",
	CodeFile:       "A file cannot be read.",
	CodeLocked:     "A file that is extended locks this value.",
	WarnUnresolved: "Only belayd's config can define this name.",
}

// Describe says in one sentence what a code means; "" when there is no such code.
func Describe(code string) string { return descriptions[code] }

func (c *checker) lint() Problems { return nil }
