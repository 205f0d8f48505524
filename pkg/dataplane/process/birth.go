// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"netio.dev/netio/pkg/dataplane/monotonic"
)

// birth is what the supervisor tells a worker process of its start.
type birth struct {
	Restarts int `json:"restarts"`
	// Died is the CLOCK_MONOTONIC time in nanoseconds at which the process
	// before was seen dead, 0 for none.
	Died int64 `json:"died,omitempty"`
}

// birthEnv carries it, in JSON.
const birthEnv = "NETIO_FORWARDER_BIRTH"

func (b birth) env() (string, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("encode birth: %w", err)
	}
	return birthEnv + "=" + string(raw), nil
}

func readBirth() (b birth, err error) {
	raw := os.Getenv(birthEnv)
	if raw == "" {
		return b, fmt.Errorf("%s is not set: a worker is started by netio-agent forward", birthEnv)
	}
	if err := json.Unmarshal([]byte(raw), &b); err != nil {
		return b, fmt.Errorf("decode %s: %w", birthEnv, err)
	}
	return b, nil
}

// gap is the time since the process before was seen dead.
func (b birth) gap() time.Duration {
	if b.Died == 0 {
		return 0
	}
	return monotonic.Now() - time.Duration(b.Died)
}
