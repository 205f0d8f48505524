// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"netio.dev/netio/pkg/ipam"
)

// gather returns the families of collectors, by name.
func gather(t *testing.T, cs ...prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(cs...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := testutil.GatherAndLint(reg)
	if err != nil || len(wrong) > 0 {
		t.Errorf("lint: %v, %v", wrong, err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// series are a family's, as name{labels} value.
func series(f *dto.MetricFamily) (out []string) {
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		out = append(out, fmt.Sprintf("{%s} %g", strings.Join(labels, ","), v))
	}
	return out
}

func TestValues(t *testing.T) {
	o := options(&fakeForwarder{})
	o.PerPod = true
	got := gather(t, NewCollector(o), observed(t))
	for name, want := range map[string][]string{
		"netio_forwarder_up":                       {"{} 1"},
		"netio_forwarder_start_time_seconds":       {"{} 1.5"},
		"netio_forwarder_last_restart_gap_seconds": {"{} 0.012"},
		"netio_forwarder_nbufs_free":               {"{} 7936"},
		"netio_forwarder_packets_total":            {"{direction=rx,lane=0} 100", "{direction=tx,lane=0} 90", "{direction=rx,lane=1} 5", "{direction=tx,lane=1} 0"},
		"netio_drops_total":                        {"{reason=policy-egress} 7", "{reason=unknown-port} 1"},
		"netio_ports":                              {"{kind=host,state=up} 1", "{kind=pod,state=down} 1", "{kind=pod,state=error} 1", "{kind=pod,state=up} 1"},
		"netio_port_connections":                   {"{kind=host} 3", "{kind=pod} 3"},
		"netio_pool_addresses_used":                {"{pool=10.244.0.0/24} 3"},
		"netio_problems":                           {"{part=policy} 1"},
		"netio_policies_invalid":                   {"{} 1"},
		"netio_cni_duration_seconds":               {"{operation=add,result=ok} 1", "{operation=del,result=error} 1"},
		"netio_policy_latency_seconds":             {"{} 1"},
		"netio_pod_drops_total":                    {"{namespace=default,pod=web,port=a/eth0} 5", "{namespace=default,pod=db,port=b/eth0} 2", "{namespace=default,pod=db,port=b/net1} 0"},
	} {
		s := series(got[name])
		slices.Sort(s)
		slices.Sort(want)
		if !slices.Equal(s, want) {
			t.Errorf("%s: %q, expected %q", name, s, want)
		}
	}
}

// Without PerPod nothing says which pods there are.
func TestCardinality(t *testing.T) {
	for name, f := range gather(t, NewCollector(options(&fakeForwarder{})), observed(t)) {
		for _, s := range series(f) {
			if strings.Contains(s, "web") || strings.Contains(s, "eth0") || strings.HasPrefix(name, "netio_pod_") {
				t.Errorf("%s%s", name, s)
			}
		}
	}
}

// A forwarder that does not answer, or not to all, costs its own metrics alone.
func TestForwarderAway(t *testing.T) {
	for _, fail := range []string{"Status", "ListDrops", "ListPorts"} {
		got := gather(t, NewCollector(options(&fakeForwarder{fail: fail})), observed(t))
		if s := series(got["netio_forwarder_up"]); !slices.Equal(s, []string{"{} 0"}) {
			t.Errorf("without %s: up %q", fail, s)
		}
		if got["netio_endpoints"] == nil || got["netio_cni_duration_seconds"] == nil {
			t.Errorf("without %s: the agent's are missing", fail)
		}
		for name := range got {
			if strings.HasPrefix(name, "netio_forwarder_") && name != "netio_forwarder_up" || strings.HasPrefix(name, "netio_port") || strings.HasPrefix(name, "netio_drops") {
				t.Errorf("without %s there is %s", fail, name)
			}
		}
	}
}

// A forwarder that hangs is given up.
func TestForwarderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(NewCollector(options(&fakeForwarder{hang: true})))
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != ForwarderTime {
			t.Errorf("waited %v", took)
		}
	})
}

func TestHandler(t *testing.T) {
	o := options(&fakeForwarder{})
	o.Pools = func() ([]ipam.PoolUsage, error) { return nil, errAway }
	var notReady error
	h := NewHandler(func() error { return notReady }, NewCollector(o), NewRecorder())
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		body, err := io.ReadAll(w.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, string(body)
	}
	for _, tt := range []struct {
		path string
		err  error
		code int
		body string
	}{
		{"/healthz", errors.New("host"), 200, "ok\n"},
		{"/readyz", nil, 200, "ok\n"},
		{"/readyz", errors.New("host"), 503, "host\n"},
		{"/metrics", nil, 200, "netio_forwarder_up 1\n"}, // although the pools are not known
		{"/metrics", nil, 200, "\ngo_goroutines "},
		{"/", nil, 404, ""},
	} {
		notReady = tt.err
		if code, body := get(tt.path); code != tt.code || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d %s", tt.path, code, body)
		}
	}
}
