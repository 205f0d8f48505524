// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/netnstest"
)

// BenchmarkAddDel is an ADD and a DEL, 16 at a time, without the processes of
// runtime and plugin and without the forwarder's own work.
func BenchmarkAddDel(b *testing.B) {
	bed := start(b)
	const parallel = 16
	requests := make(chan Request, parallel)
	for i := range parallel {
		name := fmt.Sprint("p", i)
		requests <- Request{ID: attachment.ID{Network: "netio", ContainerID: name, IfName: "eth0"}, NetNS: netnstest.New(b)}
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for b.Loop() {
		r := <-requests
		wg.Go(func() {
			if _, err := bed.agent.Add(ctx, r); err != nil {
				b.Error(err)
			}
			if err := bed.agent.Del(ctx, r.ID); err != nil {
				b.Error(err)
			}
			requests <- r
		})
	}
	wg.Wait()
}
