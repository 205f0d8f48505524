// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ name, address, want string }{
		{"an address that is taken", taken.Addr().String(), "free the address or choose another one as metrics.address"},
		{"a free one", "127.0.0.1:0", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan error, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Serve(ctx, tt.address, http.NotFoundHandler(), func(err error) { told <- err })
		}()
		err := <-told
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		cancel()
		<-done
	}
}
