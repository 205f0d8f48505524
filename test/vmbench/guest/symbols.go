// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// symbols writes the kernel's functions, "ADDRESS NAME [MODULE]" each, packed: the
// machine's serial line is slow.
func symbols(out io.Writer) (err error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return err
	}
	defer f.Close()
	text := base64.NewEncoder(base64.StdEncoding, out)
	packed := gzip.NewWriter(text)
	defer func() { err = errors.Join(err, packed.Close(), text.Close()) }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		address, rest, _ := strings.Cut(lines.Text(), " ")
		kind, name, _ := strings.Cut(rest, " ")
		if !strings.ContainsAny(kind, "tTwW") {
			continue
		}
		if _, err := fmt.Fprintf(packed, "%s %s\n", address, strings.ReplaceAll(name, "\t", " ")); err != nil {
			return err
		}
	}
	return lines.Err()
}
