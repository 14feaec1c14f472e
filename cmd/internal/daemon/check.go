package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/belayd/belay/cmd/internal/bulkhead"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/refusals"
)

// CheckConfig reads the config and everything it names, and connects to nothing.
// The report is for people; ok is false when belayd would not start.
func CheckConfig(file string) (report string, ok bool) {
	c, err := config.Read(file)
	if err != nil {
		return err.Error(), false
	}
	d := &daemon{log: slog.New(slog.DiscardHandler)} // it never runs
	d.refusals = refusals.New(d.refused)
	if d.bulkhead, err = bulkhead.New(d.log, nil); err != nil {
		return err.Error(), false
	}
	set, ps := d.assemble(c, nil)
	text := strings.TrimRight(ps.Text(), "\n")
	for _, f := range set.faults {
		if _, said := errors.AsType[*config.ProblemsError](f.Err); !said {
			text = strings.TrimLeft(text+"\n"+f.Err.Error(), "\n")
		}
	}
	if len(set.faults) > 0 {
		return text, false
	}
	summary := fmt.Sprintf("%s: ok: %d policies, %d sources, %d routers, %d notifiers, %d triggers",
		file, len(set.policies.ByName), len(c.Sources), len(c.Routers), len(c.Notifiers), len(c.Triggers))
	return strings.TrimLeft(text+"\n"+summary, "\n"), true
}
