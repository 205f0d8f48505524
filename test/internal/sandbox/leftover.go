// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// leftOvers looks for processes of the sandbox outside it: all carry its id in
// their environment. Without processes there is no mount of it and no network
// namespace either, since both were private.
func leftOvers(id string) error {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return fmt.Errorf("look for left-overs: %w", err)
	}
	marker := []byte(nameVar + "=" + id)
	var found []error
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		for entry := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(entry, marker) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				found = append(found, fmt.Errorf("process %d is left over", pid))
			}
		}
	}
	return errors.Join(found...)
}
