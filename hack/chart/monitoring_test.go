// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	sigsyaml "sigs.k8s.io/yaml"

	_ "sigs.k8s.io/controller-runtime/pkg/controller" // registers what controllers tell
)

// metric is what is known of one: its type, "" for any, and its labels.
type metric struct {
	kind   string
	labels []string
}

// serviceMonitor and prometheusRule are the parts of the Prometheus operator's kinds that
// the chart uses (its API reference, monitoring.coreos.com/v1): others are a mistake.
type (
	serviceMonitor struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Selector  metav1.LabelSelector `json:"selector"`
			Endpoints []struct {
				Port        string `json:"port"`
				Interval    string `json:"interval"`
				Relabelings []struct {
					SourceLabels []string `json:"sourceLabels"`
					Regex        string   `json:"regex"`
					TargetLabel  string   `json:"targetLabel"`
				} `json:"relabelings"`
			} `json:"endpoints"`
		} `json:"spec"`
	}
	prometheusRule struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Groups []struct {
				Name  string `json:"name"`
				Rules []struct {
					Alert       string            `json:"alert"`
					Expr        string            `json:"expr"`
					For         string            `json:"for"`
					Labels      map[string]string `json:"labels"`
					Annotations map[string]string `json:"annotations"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
)

// targetLabels are those that a series has of where it was gathered.
var targetLabels = []string{"job", "instance", "namespace", "pod", "container", "service", "endpoint"}

// metrics are all that agents tell, from the table of docs/metrics.md, which a test of
// package metrics compares with what is gathered; and the operator's, from its registry.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]metric{"up": {kind: "gauge"}}
	for _, row := range regexp.MustCompile("(?m)^\\| `(netio_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		m := metric{kind: row[2]}
		for label := range strings.SplitSeq(row[3], ",") {
			if label = strings.Trim(label, " `"); label != "" {
				m.labels = append(m.labels, label)
			}
		}
		known[row[1]] = m
	}
	if len(known) < 30 {
		t.Fatalf("%d metrics in docs/metrics.md", len(known))
	}
	descriptions := make(chan *prometheus.Desc, 1000)
	ctrlmetrics.Registry.(prometheus.Collector).Describe(descriptions)
	close(descriptions)
	description := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	for d := range descriptions {
		if m := description.FindStringSubmatch(d.String()); m != nil {
			known[m[1]] = metric{labels: strings.Split(m[2], ",")}
		}
	}
	return known
}

// check reads an expression, and whether it is about what there is.
func check(known map[string]metric, expression string) error {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return err
	}
	var found error
	labels := map[string]bool{}
	for _, l := range targetLabels {
		labels[l] = true
	}
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok || found != nil {
			return nil
		}
		name := v.Name
		m, ok := known[name]
		if !ok {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if h, is := known[strings.TrimSuffix(name, suffix)]; is && strings.HasSuffix(name, suffix) && h.kind == "histogram" {
					m, ok = metric{kind: "counter", labels: append(slices.Clone(h.labels), "le")}, true
				}
			}
		}
		if !ok {
			found = fmt.Errorf("there is no metric %s", name)
			return nil
		}
		for _, l := range m.labels {
			labels[l] = true
		}
		for _, matcher := range v.LabelMatchers {
			if l := matcher.Name; l != "__name__" && !slices.Contains(m.labels, l) && !slices.Contains(targetLabels, l) {
				found = fmt.Errorf("%s has no label %s", name, l)
			}
		}
		counts := false
		for _, above := range path {
			if c, ok := above.(*parser.Call); ok && (c.Func.Name == "rate" || c.Func.Name == "increase") {
				counts = true
			}
		}
		if m.kind != "" && counts != (m.kind == "counter") {
			found = fmt.Errorf("%s is a %s; rate and increase are for counters, and counters for them", name, m.kind)
		}
		return nil
	})
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok && found == nil {
			for _, l := range a.Grouping {
				if !labels[l] {
					found = fmt.Errorf("no metric of it has the label %s", l)
				}
			}
		}
		return nil
	})
	return found
}

// TestCheck: mistakes that expressions can have are found.
func TestCheck(t *testing.T) {
	known := metrics(t)
	for expression, want := range map[string]string{
		`netio_forwarder_up == 0`: "",
		`histogram_quantile(0.9, sum by (le) (rate(netio_cni_duration_seconds_bucket[5m])))`: "",
		`leader_election_master_status{name="x"}`:                                            "",
		`netio_forwarder_up ==`:                         "unexpected end",
		`netio_forwarder_upp`:                           "no metric",
		`netio_forwarder_up_bucket`:                     "no metric",
		`netio_forwarder_up{lane="0"}`:                  "no label lane",
		`rate(netio_forwarder_up[5m])`:                  "is a gauge",
		`netio_drops_total > 1`:                         "is a counter",
		`sum by (raeson) (rate(netio_drops_total[5m]))`: "the label raeson",
		`leader_election_master_status{nam="x"}`:        "no label nam",
	} {
		err := check(known, expression)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", expression, err, want)
		}
	}
}

// monitoring are values that turn all of it on.
var monitoring = []string{
	`network={"metrics":{"port":9700}}`, `operator={"metricsPort":9619}`,
	`monitoring={"withoutCRDs":true,"interval":"15s","labels":{"release":"prometheus"},"agents":{"enabled":true},"operator":{"enabled":true},"rules":{"enabled":true},"dashboard":{"enabled":true}}`,
}

// TestMonitoring: what Prometheus and Grafana get is of metrics that there are, and
// alerts say what to do.
func TestMonitoring(t *testing.T) {
	known := metrics(t)
	text, err := template(t, monitoring...)
	if err != nil {
		t.Fatal(err)
	}
	monitors, services, alerts, panels := 0, 0, 0, 0
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var kind struct{ Kind string }
		if err := sigsyaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatal(err)
		}
		strict := func(into any) {
			t.Helper()
			if err := sigsyaml.UnmarshalStrict([]byte(doc), into); err != nil {
				t.Errorf("%v in:\n%s", err, doc)
			}
		}
		switch kind.Kind {
		case "ServiceMonitor":
			m := &serviceMonitor{}
			strict(m)
			if m.Labels["release"] != "prometheus" || len(m.Spec.Endpoints) != 1 || m.Spec.Endpoints[0].Port != "metrics" || m.Spec.Endpoints[0].Interval != "15s" {
				t.Errorf("%+v", m)
			}
			monitors++
		case "Service":
			s := &corev1.Service{}
			strict(s)
			if port := map[string]int32{"netio-agent": 9700, "netio-operator": 9619}[s.Name]; s.Spec.Ports[0].Port != port || s.Spec.Selector["app.kubernetes.io/name"] != s.Name {
				t.Errorf("%+v", s)
			}
			services++
		case "PrometheusRule":
			r := &prometheusRule{}
			strict(r)
			for _, g := range r.Spec.Groups {
				for _, a := range g.Rules {
					if err := check(known, a.Expr); err != nil {
						t.Errorf("alert %s: %v", a.Alert, err)
					}
					if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Labels["severity"] == "" {
						t.Errorf("alert %s: %v, %v", a.Alert, a.Annotations, a.Labels)
					}
					alerts++
				}
			}
		case "ConfigMap":
			m := &corev1.ConfigMap{}
			strict(m)
			if m.Name != "netio-dashboard" {
				continue
			}
			if m.Labels["grafana_dashboard"] != "1" {
				t.Errorf("labels %v", m.Labels)
			}
			panels = dashboard(t, known, m.Data["netio.json"])
		}
	}
	if monitors != 2 || services != 2 || alerts < 10 || panels < 10 {
		t.Errorf("%d monitors of %d services, %d alerts, %d panels", monitors, services, alerts, panels)
	}
}

// dashboard reads one, and returns how many panels it has.
func dashboard(t *testing.T, known map[string]metric, text string) (panels int) {
	t.Helper()
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	for i, p := range d.Panels {
		if p.ID != i+1 {
			t.Errorf("panel %s has number %d, expected %d", p.Title, p.ID, i+1)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			// What Grafana puts in.
			if err := check(known, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)); err != nil {
				t.Errorf("panel %s: %v", p.Title, err)
			}
			panels++
		}
	}
	return panels
}

// TestMonitoringIsOff unless it is asked for, and says what it takes.
func TestMonitoringIsOff(t *testing.T) {
	text, err := template(t)
	if err != nil || strings.Contains(text, "monitoring.coreos.com") || strings.Contains(text, "dashboard") {
		t.Errorf("%v", err)
	}
	for want, values := range map[string][]string{
		"takes network.metrics":                 {`monitoring={"agents":{"enabled":true},"withoutCRDs":true}`},
		"takes operator.metricsPort":            {`monitoring={"operator":{"enabled":true},"withoutCRDs":true}`},
		"takes monitoring.agents":               {`monitoring={"rules":{"enabled":true},"withoutCRDs":true}`},
		"install the Prometheus operator first": {`monitoring={"agents":{"enabled":true}}`, `network={"metrics":{}}`},
		"/monitoring/interval":                  {`monitoring={"interval":"soon"}`},
		"'agent' not allowed":                   {`monitoring={"agent":{"enabled":true}}`},
	} {
		if _, err := template(t, values...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q is not in: %v", values, want, err)
		}
	}
}

// TestTable: what the documentation asks Prometheus is of metrics that there are.
func TestTable(t *testing.T) {
	known := metrics(t)
	text, err := os.ReadFile(filepath.Join(top, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What to look at\n")
	rows := regexp.MustCompile("(?m)^\\| [^|]*\\? \\| `([^`]+)`").FindAllStringSubmatch(section, -1)
	if len(rows) < 5 {
		t.Fatalf("%d questions", len(rows))
	}
	for _, row := range rows {
		if err := check(known, row[1]); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
	}
}
