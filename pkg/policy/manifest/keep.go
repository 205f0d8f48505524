// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keeper writes the versions in force to a file, so that the next process has
// them if a file is bad by then.
type keeper struct {
	path string // "": keeps nothing
	dir  string // whose files these are
}

type keptFiles struct {
	Directory string            `json:"directory"`
	Files     map[string]string `json:"files"` // contents by name
}

// load returns what was kept. Nothing is, of another directory.
func (k *keeper) load() (map[string]*version, []Problem) {
	if k.path == "" {
		return nil, nil
	}
	problem := func(format string, args ...any) []Problem {
		return []Problem{{File: k.path, Message: fmt.Sprintf(format, args...) + ": last good versions from before the restart are lost; the file is written anew"}}
	}
	data, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, problem("cannot be read: %v", err)
	}
	var kept keptFiles
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, problem("is damaged: %v", err)
	}
	out := make(map[string]*version)
	var problems []Problem
	if kept.Directory != k.dir {
		return out, nil
	}
	for name, content := range kept.Files {
		objects, bad := parse(filepath.Join(k.dir, name), []byte(content))
		if len(bad) > 0 {
			problems = append(problems, problem("has a version of %s that is not valid any more", name)...)
			continue
		}
		out[name] = &version{data: []byte(content), objects: objects}
	}
	return out, problems
}

// save replaces what is kept, all or nothing.
func (k *keeper) save(inForce map[string]*version) error {
	if k.path == "" {
		return nil
	}
	kept := keptFiles{Directory: k.dir, Files: make(map[string]string)}
	for name, v := range inForce {
		kept.Files[name] = string(v.data)
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), filepath.Base(k.path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no longer there if all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), k.path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
