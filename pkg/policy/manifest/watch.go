// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// After a change the directory is read when it has been quiet for a while, so
	// that several files, or a file that is written piece by piece, are one
	// change; but not much later if it is never quiet.
	quiet    = 100 * time.Millisecond
	atLatest = time.Second
	// The directory is also read now and then without a notice: file systems of
	// other machines give none, and there may be too few inotify watches.
	rereadEvery = 30 * time.Second
)

// Option changes how Watch works.
type Option func(*watcher)

// KeepIn keeps what is in force in a file, written whenever that changes: a new
// process then starts with the last good versions of files that are bad when it
// starts. The file's directory must exist.
func KeepIn(path string) Option {
	return func(w *watcher) { w.keeper.path = path }
}

// Watch reads a directory and calls notify with what is in force and what is
// wrong: at once, and then whenever one of them has changed. It returns when the
// context ends, with its error. notify is called from one goroutine at a time;
// while it runs, changes wait.
//
// Files may be replaced in any way: written in place, renamed over, exchanged
// together by a symbolic link as kubelet does with a ConfigMap. The directory,
// and what leads to it, may be links that change, may vanish and come back.
func Watch(ctx context.Context, dir string, notify func(Set, []Problem), options ...Option) error {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find the directory %s: %w", dir, err)
	}
	w := &watcher{
		loader: loader{dir: dir}, keeper: keeper{dir: absolute}, absolute: absolute, notify: notify,
		identities: make(map[string]os.FileInfo),
	}
	for _, o := range options {
		o(w)
	}
	return w.run(ctx)
}

type watcher struct {
	loader   loader
	keeper   keeper
	absolute string
	notify   func(Set, []Problem)

	fs         *fsnotify.Watcher // nil: there is none
	fsProblem  error             // why not everything is watched
	trail      trail
	identities map[string]os.FileInfo // of the directories that are watched

	told         bool
	lastSet      Set
	lastProblems []Problem
	unsaved      bool
	saveProblem  error
}

func (w *watcher) run(ctx context.Context) error {
	var events chan fsnotify.Event
	var errors chan error
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err == nil {
		defer w.fs.Close()
		events, errors = w.fs.Events, w.fs.Errors
	} else {
		w.fs, w.fsProblem = nil, err
	}

	kept, keptProblems := w.keeper.load()
	w.loader.inForce = kept
	w.reload(keptProblems)

	var due <-chan time.Time
	var first time.Time
	soon := func() {
		if due == nil {
			first = time.Now()
		}
		due = time.After(min(quiet, time.Until(first.Add(atLatest))))
	}
	ticker := time.NewTicker(rereadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			if w.trail.leads(e.Name) {
				soon()
			}
		case <-errors:
			soon() // events may have been lost
		case <-due:
			due = nil
			w.reload(nil)
		case <-ticker.C:
			w.reload(nil)
		}
	}
}

// reload reads the directory and tells what changed.
func (w *watcher) reload(more []Problem) {
	// Watch first: what changes after the reading is noticed.
	w.watch()
	set, problems, changed := w.loader.load()
	if w.unsaved = w.unsaved || changed; w.unsaved {
		w.saveProblem = w.keeper.save(w.loader.inForce)
		w.unsaved = w.saveProblem != nil
	}
	problems = append(problems, more...)
	if w.saveProblem != nil {
		problems = append(problems, Problem{File: w.keeper.path, Message: fmt.Sprintf("cannot be written: %v: last good versions will be lost at a restart", w.saveProblem)})
	}
	if w.fsProblem != nil {
		problems = append(problems, Problem{File: w.loader.dir, Message: fmt.Sprintf(
			"changes are noticed only every %v: %v: raise the sysctls fs.inotify.max_user_watches and max_user_instances", rereadEvery, w.fsProblem)})
	}
	if w.told && reflect.DeepEqual(set, w.lastSet) && reflect.DeepEqual(problems, w.lastProblems) {
		return
	}
	w.told, w.lastSet, w.lastProblems = true, set, problems
	w.notify(set, problems)
}

// watch watches what leads to the files as it is now.
func (w *watcher) watch() {
	if w.fs == nil {
		return
	}
	// A link may change while its trail is followed: then the trail is another
	// one when it is followed again.
	w.fsProblem = nil
	for range 3 {
		w.trail = make(trail)
		w.trail.followManifests(w.absolute)
		if !w.adjust() {
			return
		}
	}
}

// adjust sets the watches to the directories of the trail and reports whether
// that was a change. A directory that was replaced by another one of the same
// name is watched anew.
func (w *watcher) adjust() (changed bool) {
	for dir, old := range w.identities {
		now, err := os.Stat(dir)
		if w.trail[dir] == nil || err != nil || !os.SameFile(old, now) {
			w.fs.Remove(dir) // an error means that it is not watched
			delete(w.identities, dir)
			changed = true
		}
	}
	for dir := range w.trail {
		info, err := os.Stat(dir)
		if err != nil {
			changed = true // gone since: follow the trail again
			continue
		}
		// Also where it is watched: the watch of a directory that was moved away
		// and back is lost.
		if err := w.fs.Add(dir); err != nil {
			w.fsProblem = err
			continue
		}
		if w.identities[dir] == nil {
			w.identities[dir] = info
			changed = true
		}
	}
	return changed
}
