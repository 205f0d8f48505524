// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// manifestOf returns a file with policies of these names; "bad" is not a policy.
// A name may have a priority: web=7.
func manifestOf(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		if name == "bad" {
			b.WriteString("--- \nkind: [\n")
			continue
		}
		name, priority, given := strings.Cut(name, "=")
		if !given {
			priority = "500"
		}
		fmt.Fprintf(&b, "---\napiVersion: netio.dev/v1alpha1\nkind: NetIOPolicy\nmetadata: {name: %s}\nspec: {podSelector: {}, priority: %s}\n", name, priority)
	}
	return b.String()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inWords returns the policies of a set as "web db=7".
func inWords(s Set) string {
	var out []string
	for _, p := range s.Policies {
		name := p.Name
		if *p.Spec.Priority != 500 {
			name += fmt.Sprintf("=%d", *p.Spec.Priority)
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// expectProblems compares problems with "file: part of the message".
func expectProblems(t *testing.T, dir string, got []Problem, want ...string) {
	t.Helper()
	var left []string
	for _, p := range got {
		left = append(left, strings.TrimPrefix(p.Error(), dir+"/"))
	}
	for _, w := range want {
		file, message, _ := strings.Cut(w, ": ")
		i := slices.IndexFunc(left, func(l string) bool { return strings.HasPrefix(l, file+":") && strings.Contains(l, message) })
		if i < 0 {
			t.Errorf("no problem %q in %q", w, left)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("more problems: %q", left)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.yaml", manifestOf("web"))
	write(t, dir+"/a.yml", manifestOf("db", "cache=7"))
	write(t, dir+"/empty.yaml", "")
	write(t, dir+"/bad.yaml", manifestOf("lost", "bad"))
	write(t, dir+"/c.yaml", manifestOf("other", "web"))
	write(t, dir+"/.hidden.yaml", "{")
	write(t, dir+"/notes.txt", "{")
	write(t, dir+"/big.yaml", strings.Repeat("#\n", maxFileSize/2+1))
	for _, err := range []error{
		os.Mkdir(dir+"/sub.yaml", 0o755),
		syscall.Mkfifo(dir+"/fifo.yaml", 0o644),
		os.Symlink("nowhere", dir+"/link.yaml"),
		os.Symlink("b.yaml", dir+"/.#b.yaml"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	set, problems := Load(dir)
	if got, want := inWords(set), "cache=7 db web"; got != want {
		t.Errorf("policies %q, want %q", got, want)
	}
	expectProblems(t, dir, problems,
		"bad.yaml: not YAML",
		"c.yaml: is also in "+dir+"/b.yaml, line 2: rename or remove one (nothing of it is in force)",
		"sub.yaml: is not a regular file",
		"fifo.yaml: is not a regular file",
		"link.yaml: no such file",
		"big.yaml: is larger than 4 MiB",
	)
	if got, want := set.Sources[ID{"NetIOPolicy", types.NamespacedName{Namespace: "default", Name: "cache"}}], (Source{dir + "/a.yml", 7}); got != want {
		t.Errorf("source %v, want %v", got, want)
	}

	_, problems = Load(dir + "/nowhere")
	expectProblems(t, dir, problems, "nowhere: the directory is missing: create it, empty if there are to be no policies (nothing of it is in force)")
	_, problems = Load(dir + "/b.yaml")
	expectProblems(t, dir, problems, "b.yaml: is not a directory")
}

// TestInForce: each step writes files and loads again; what is in force follows
// the rules of the package's documentation.
func TestInForce(t *testing.T) {
	type files map[string]string // "": removed
	type step struct {
		write    files
		inForce  string
		problems []string
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a bad file keeps all of its last good version", []step{
			{files{"a": manifestOf("web", "db")}, "db web", nil},
			{files{"a": manifestOf("web=7", "new", "bad")}, "db web", []string{"a.yaml: the last good version stays in force"}},
			{files{"a": manifestOf("web=7", "new")}, "new web=7", nil},
		}},
		{"a file that never was good has nothing in force", []step{
			{files{"a": manifestOf("web", "bad"), "b": manifestOf("db")}, "db", []string{"a.yaml: nothing of it is in force"}},
			{files{"a": manifestOf("web")}, "db web", nil},
		}},
		{"an emptied file has no policies, and is no mistake", []step{
			{files{"a": manifestOf("web")}, "web", nil},
			{files{"a": "# nothing\n"}, "", nil},
			{files{"a": manifestOf("bad")}, "", []string{"a.yaml: nothing of it is in force"}},
		}},
		{"a removed file takes its policies along, bad or not", []step{
			{files{"a": manifestOf("web"), "b": manifestOf("db")}, "db web", nil},
			{files{"a": manifestOf("bad")}, "db web", []string{"a.yaml: stays in force"}},
			{files{"a": ""}, "db", nil},
			{files{"a": manifestOf("bad")}, "db", []string{"a.yaml: nothing of it"}},
		}},
		{"of two files the one keeps a policy that has it in force", []step{
			{files{"b": manifestOf("web=1")}, "web=1", nil},
			{files{"a": manifestOf("web=2", "db")}, "web=1", []string{"a.yaml: is also in"}},
			{files{"b": manifestOf("web=3")}, "web=3", []string{"a.yaml: is also in"}},
			{files{"b": ""}, "db web=2", nil},
		}},
		{"the loser falls back to its last good version", []step{
			{files{"a": manifestOf("web"), "b": manifestOf("db")}, "db web", nil},
			{files{"b": manifestOf("db=2", "web=2")}, "db web", []string{"b.yaml: is also in"}},
			{files{"a": manifestOf("api")}, "api db=2 web=2", nil},
		}},
		{"a policy that is in force from a bad file's last version is taken", []step{
			{files{"b": manifestOf("web")}, "web", nil},
			{files{"a": manifestOf("web=2"), "b": manifestOf("bad")}, "web", []string{"b.yaml: not YAML", "a.yaml: is also in"}},
		}},
		{"files exchange their policies at once", []step{
			{files{"a": manifestOf("web"), "b": manifestOf("db")}, "db web", nil},
			{files{"a": manifestOf("db=2"), "b": manifestOf("web=2")}, "db=2 web=2", nil},
		}},
		{"falling back makes the next conflict", []step{
			{files{"a": manifestOf("x"), "b": manifestOf("y"), "c": manifestOf("z")}, "x y z", nil},
			// b falls back to y, so a does to x, so c does to z.
			{files{"a": manifestOf("y=2"), "b": manifestOf("bad"), "c": manifestOf("x=3")}, "x y z", []string{
				"a.yaml: is also in", "b.yaml: not YAML", "c.yaml: is also in",
			}},
			{files{"b": manifestOf("b")}, "b x=3 y=2", nil},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			l := loader{dir: dir}
			for i, s := range test.steps {
				for name, content := range s.write {
					if content == "" {
						if err := os.Remove(filepath.Join(dir, name+".yaml")); err != nil {
							t.Fatal(err)
						}
						continue
					}
					write(t, filepath.Join(dir, name+".yaml"), content)
				}
				set, problems, _ := l.load()
				if got := inWords(set); got != s.inForce {
					t.Errorf("step %d: in force %q, want %q", i, got, s.inForce)
				}
				expectProblems(t, dir, problems, s.problems...)
				if again, _, changed := l.load(); changed || inWords(again) != s.inForce {
					t.Errorf("step %d: read again: %q, changed %v", i, inWords(again), changed)
				}
			}
		})
	}
}
