// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"time"

	"netio.dev/netio/pkg/dataplane/monotonic"
)

// wall is the time of the present vector for people, in Unix nanoseconds.
func (w *Worker) wall() int64 { return int64(w.now) + w.epoch }

// epochOffset is what to add to CLOCK_MONOTONIC to get Unix time.
func epochOffset() int64 { return time.Now().UnixNano() - int64(monotonic.Now()) }
