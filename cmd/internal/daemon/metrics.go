package daemon

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// registerBuildInfo says which code runs.
func registerBuildInfo(reg prometheus.Registerer, version string) error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "belay", Name: "build_info", Help: "1, with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	info.Set(1)
	if err := reg.Register(info); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}
