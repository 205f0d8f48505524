// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"netio.dev/netio/hack/images/debian"
)

// runc is the one of Debian or Ubuntu: it is C in part, and wants libseccomp. The
// package is unpacked and not installed, since to install it would remove
// Docker's own, where that is there.
func (b *Builder) runc(ctx context.Context) error {
	const what = "package runc"
	return b.once("runc", what, what, func() error {
		dir := filepath.Join(b.Dir.Debian(), "runc")
		if err := debian.Unpack(ctx, dir, "runc"); err != nil {
			return err
		}
		for _, program := range []string{"usr/sbin/runc", "usr/bin/runc"} {
			if _, err := b.output(ctx, dir, "./"+program, "--version"); errors.Is(err, os.ErrNotExist) {
				continue
			} else if err != nil {
				return fmt.Errorf("%w; a library that it needs is missing: apt-get install libseccomp2", err)
			}
			return link(filepath.Join("..", "debian", "runc", program), filepath.Join(b.Dir.Bin(), "runc"))
		}
		return errors.New("there is no runc in the package")
	})
}
