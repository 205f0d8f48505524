// SPDX-License-Identifier: Apache-2.0

package servicehealth

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"
)

func TestProxy(t *testing.T) {
	healthy := true
	p := NewProxy(func() bool { return healthy })
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	type answer struct {
		LastUpdated, CurrentTime time.Time
		NodeEligible             bool
	}
	read := func(w *httptest.ResponseRecorder) (a answer) {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	w := ask("/healthz")
	first := read(w)
	if w.Code != 200 || !first.NodeEligible || first.LastUpdated.IsZero() || !first.LastUpdated.Equal(first.CurrentTime) {
		t.Errorf("%d: %+v", w.Code, first)
	}
	healthy = false
	w = ask("/healthz")
	if then := read(w); w.Code != 503 || !then.LastUpdated.Equal(first.LastUpdated) {
		t.Errorf("%d: %+v after %+v", w.Code, then, first)
	}
	if w := ask("/proxyMode"); w.Code != 200 || w.Body.String() != ProxyMode {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
