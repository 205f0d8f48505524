// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// sign makes the file by which others know that this forwarder forwards; that it is
// there already is no error.
func (o *options) sign() error {
	if o.forwarding == "" {
		return nil
	}
	if err := os.WriteFile(o.forwarding, nil, 0o644); err != nil {
		return fmt.Errorf("make --forwarding-file: %w", err)
	}
	return nil
}

// noSign removes what an earlier process of the same place has left.
func (o *options) noSign() error {
	if o.forwarding == "" {
		return nil
	}
	if err := os.Remove(o.forwarding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove --forwarding-file: %w", err)
	}
	return nil
}
