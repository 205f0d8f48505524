// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// keyOf is a hash of the words and of the files in dir, names and contents; ""
// is no folder. It differs if a build of them may.
func keyOf(dir string, words ...string) (string, error) {
	h := sha256.New()
	for _, w := range words {
		fmt.Fprintf(h, "%d:%s", len(w), w)
	}
	if dir != "" {
		files, err := os.ReadDir(dir)
		if err != nil {
			return "", fmt.Errorf("read sources: %w", err)
		}
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				return "", fmt.Errorf("read sources: %w", err)
			}
			fmt.Fprintf(h, "%s:%d:%s", f.Name(), len(data), data)
		}
	}
	return fmt.Sprintf("%x\n", h.Sum(nil)), nil
}
