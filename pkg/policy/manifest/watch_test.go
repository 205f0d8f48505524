// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched collects what a Watch tells.
type watched struct {
	t    *testing.T
	told chan told
	last told
	stop func()
}

type told struct {
	set      Set
	problems []Problem
}

func watch(t *testing.T, dir string, options ...Option) *watched {
	t.Helper()
	w := &watched{t: t, told: make(chan told, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Watch(ctx, dir, func(s Set, p []Problem) { w.told <- told{s, p} }, options...)
	}()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	}
	t.Cleanup(w.stop)
	return w
}

// until waits for these policies and that number of problems. It gives up before
// the directory is read without a notice, so that notices are what is tested.
func (w *watched) until(policies string, problems int) {
	w.t.Helper()
	give := time.After(rereadEvery * 2 / 3)
	for {
		select {
		case w.last = <-w.told:
			if inWords(w.last.set) == policies && len(w.last.problems) == problems {
				return
			}
		case <-give:
			w.t.Fatalf("never came to policies %q and %d problems; last were %q, %v", policies, problems, inWords(w.last.set), w.last.problems)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", manifestOf("web"))
	w := watch(t, dir)
	w.until("web", 0)

	write(t, dir+"/b.yaml", manifestOf("db"))
	w.until("db web", 0)
	write(t, dir+"/a.yaml", manifestOf("web=2")) // in place
	w.until("db web=2", 0)
	write(t, dir+"/.a.yaml.new", manifestOf("web=3")) // as editors do
	must(t, os.Rename(dir+"/a.yaml", dir+"/a.yaml~"), os.Rename(dir+"/.a.yaml.new", dir+"/a.yaml"))
	w.until("db web=3", 0)
	write(t, dir+"/a.yaml", manifestOf("bad"))
	w.until("db web=3", 1)
	write(t, dir+"/a.yaml", manifestOf("web=4"))
	w.until("db web=4", 0)
	must(t, os.Rename(dir+"/a.yaml", dir+"/c.yaml"))
	w.until("db web=4", 0)
	must(t, os.Remove(dir+"/b.yaml"))
	w.until("web=4", 0)
	must(t, os.Truncate(dir+"/c.yaml", 0))
	w.until("", 0)
}

// TestWatchTellsChangesOnly: files that are touched, or rewritten as they were,
// are not told.
func TestWatchTellsChangesOnly(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", manifestOf("web"))
	w := watch(t, dir)
	w.until("web", 0)
	for range 3 {
		write(t, dir+"/new", manifestOf("web"))
		must(t, os.Rename(dir+"/new", dir+"/a.yaml"), os.Chtimes(dir+"/a.yaml", time.Time{}, time.Now()))
		write(t, dir+"/notes.txt", "x")
	}
	write(t, dir+"/b.yaml", manifestOf("db"))
	w.until("db web", 0)
	w.stop()
	if len(w.told) != 0 {
		t.Errorf("told again: %+v", <-w.told)
	}
}

// TestWatchConfigMap replaces all files at once as kubelet does.
func TestWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name string, files map[string]string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		for file, content := range files {
			write(t, filepath.Join(dir, name, file), content)
		}
		must(t, os.Symlink(name, dir+"/..data_tmp"), os.Rename(dir+"/..data_tmp", dir+"/..data"))
	}
	version("..2026_1", map[string]string{"a.yaml": manifestOf("web"), "b.yaml": manifestOf("db")})
	must(t, os.Symlink("..data/a.yaml", dir+"/a.yaml"), os.Symlink("..data/b.yaml", dir+"/b.yaml"))
	w := watch(t, dir)
	w.until("db web", 0)

	for range 3 { // the second time it is another ..data that is watched
		version("..2026_2", map[string]string{"a.yaml": manifestOf("db=2"), "b.yaml": manifestOf("web=2")})
		must(t, os.RemoveAll(dir+"/..2026_1"))
		w.until("db=2 web=2", 0)
		version("..2026_1", map[string]string{"a.yaml": manifestOf("web"), "b.yaml": manifestOf("db")})
		must(t, os.RemoveAll(dir+"/..2026_2"))
		w.until("db web", 0)
	}
}

// TestWatchLinks: the directory is a link below a link, and a file is a link to
// elsewhere.
func TestWatchLinks(t *testing.T) {
	top := t.TempDir()
	must(t, os.MkdirAll(top+"/v1/policies", 0o755), os.MkdirAll(top+"/v2/policies", 0o755), os.Mkdir(top+"/etc", 0o755), os.Mkdir(top+"/elsewhere", 0o755))
	write(t, top+"/v1/policies/a.yaml", manifestOf("web"))
	write(t, top+"/v2/policies/a.yaml", manifestOf("web=2"))
	write(t, top+"/elsewhere/b", manifestOf("db"))
	must(t, os.Symlink("v1", top+"/current"), os.Symlink("../current/policies", top+"/etc/policies"), os.Symlink(top+"/elsewhere/b", top+"/v2/policies/b.yaml"))

	w := watch(t, top+"/etc/policies")
	w.until("web", 0)
	must(t, os.Symlink("v2", top+"/next"), os.Rename(top+"/next", top+"/current"))
	w.until("db web=2", 0)
	write(t, top+"/elsewhere/b", manifestOf("db=2"))
	w.until("db=2 web=2", 0)
	must(t, os.Remove(top+"/elsewhere/b"))
	w.until("db=2 web=2", 1)
	if p := w.last.problems[0]; p.Effect != Kept || !strings.HasSuffix(p.File, "/b.yaml") {
		t.Errorf("link without a file: %v", p)
	}
	must(t, os.Remove(top+"/etc/policies"), os.Symlink("../v1/policies", top+"/etc/policies"))
	w.until("web", 0)
}

// TestWatchDirectoryComesAndGoes: also what is above it.
func TestWatchDirectoryComesAndGoes(t *testing.T) {
	top := t.TempDir()
	dir := top + "/a/b/policies"
	w := watch(t, dir)
	w.until("", 1)
	if p := w.last.problems[0]; p.Effect != Dropped || !strings.Contains(p.Message, "is missing") {
		t.Errorf("no directory: %v", p)
	}
	must(t, os.MkdirAll(dir, 0o755))
	w.until("", 0)
	write(t, dir+"/a.yaml", manifestOf("web"))
	w.until("web", 0)

	must(t, os.Rename(top+"/a", top+"/away"))
	w.until("web", 1)
	if p := w.last.problems[0]; p.Effect != Kept || !strings.Contains(p.Message, "is missing") {
		t.Errorf("directory gone: %v", p)
	}
	must(t, os.Rename(top+"/away", top+"/a"))
	w.until("web", 0)
	write(t, dir+"/a.yaml", manifestOf("web=2"))
	w.until("web=2", 0)

	must(t, os.MkdirAll(top+"/new", 0o755))
	write(t, top+"/new/a.yaml", manifestOf("web=3"))
	must(t, os.Rename(dir, top+"/old"), os.Rename(top+"/new", dir)) // at once
	w.until("web=3", 0)
	write(t, dir+"/a.yaml", manifestOf("web=4"))
	w.until("web=4", 0)

	must(t, os.Rename(dir, top+"/gone"))
	w.until("web=4", 1)
	write(t, dir, "a file")
	w.until("web=4", 1)
	must(t, os.Remove(dir), os.Mkdir(dir, 0o755))
	w.until("", 0)
}

// TestKeepIn: what was in force outlives the process, for a file that is bad when
// the next one starts and for a directory that is missing.
func TestKeepIn(t *testing.T) {
	dir, kept := t.TempDir()+"/policies", t.TempDir()+"/kept.json"
	must(t, os.Mkdir(dir, 0o755))
	write(t, dir+"/a.yaml", manifestOf("web"))
	write(t, dir+"/b.yaml", manifestOf("db"))
	w := watch(t, dir, KeepIn(kept))
	w.until("db web", 0)
	write(t, dir+"/a.yaml", manifestOf("web=2"))
	w.until("db web=2", 0)
	w.stop()

	write(t, dir+"/a.yaml", manifestOf("bad"))
	write(t, dir+"/b.yaml", manifestOf("db=2"))
	w = watch(t, dir, KeepIn(kept))
	w.until("db=2 web=2", 1)
	w.stop()

	must(t, os.Rename(dir, dir+".gone"))
	w = watch(t, dir, KeepIn(kept))
	w.until("db=2 web=2", 1)
	w.stop()

	// Of another directory nothing is taken.
	must(t, os.Mkdir(dir+"2", 0o755))
	write(t, dir+"2/a.yaml", manifestOf("bad"))
	w = watch(t, dir+"2", KeepIn(kept))
	w.until("", 1)
	w.stop()

	// Damaged, it is reported and written anew.
	write(t, kept, "{")
	must(t, os.Rename(dir+".gone", dir))
	w = watch(t, dir, KeepIn(kept))
	w.until("db=2", 2)
	w.stop()
	w = watch(t, dir, KeepIn(kept))
	w.until("db=2", 1)
	w.stop()

	w = watch(t, dir, KeepIn(t.TempDir()+"/nowhere/kept.json"))
	w.until("db=2", 2)
	if p := w.last.problems[1]; !strings.Contains(p.Message, "cannot be written") || p.Effect != None {
		t.Errorf("kept nowhere: %v", p)
	}
}

func TestTrail(t *testing.T) {
	top := t.TempDir()
	must(t, os.MkdirAll(top+"/real/dir", 0o755), os.Symlink("real", top+"/link"), os.Symlink("loop", top+"/loop"), os.Symlink("../real/./dir/../dir", top+"/real/again"))
	for _, test := range []struct{ path, leads, through string }{
		{"/real/dir", "/real/dir", "/real"},
		{"/link/dir", "/real/dir", "/link"},
		{"/link/again", "/real/dir", "/real/again"},
		{"/link/nothing/more", "", "/real/nothing"},
		{"/loop/dir", "", "/loop"},
		{"/real/../link//dir/", "/real/dir", "/link"},
	} {
		tr := make(trail)
		got, want := tr.follow(top+test.path), ""
		if test.leads != "" {
			want = top + test.leads
		}
		if got != want {
			t.Errorf("%s leads to %q, want %q", test.path, got, want)
		}
		if !tr.leads(top + test.through) {
			t.Errorf("%s: a change to %s does not matter: %v", test.path, test.through, tr)
		}
		if tr.leads(top + "/other") {
			t.Errorf("%s: a change to /other matters: %v", test.path, tr)
		}
	}
}
