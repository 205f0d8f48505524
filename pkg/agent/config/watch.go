// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must be quiet before it is read: editors write in
// several steps.
const settle = 100 * time.Millisecond

// Watch calls changed with each new content of the file, valid or not, until
// ctx ends. Content that is the same as last is not reported. It watches the
// folder, so that a file that is replaced by renaming, or through a symbolic
// link, is seen too.
func Watch(ctx context.Context, path string, last []byte, changed func(data []byte, err error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch config: %w", err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		return fmt.Errorf("watch config folder: %w", err)
	}
	failed := false
	look := func() {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Equal(data, last) && !failed {
			return
		}
		if failed = err != nil; !failed {
			last = data
		}
		changed(data, err)
	}
	look() // what was written between the caller's reading and Add
	timer := time.NewTimer(0)
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			timer.Reset(settle)
		case <-w.Errors: // an overflow: look, whatever was lost
			timer.Reset(settle)
		case <-timer.C:
			look()
		}
	}
}
