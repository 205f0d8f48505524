// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"errors"
	"testing"
)

func TestList(t *testing.T) {
	var l List
	if got := l.All(); len(got) != 0 {
		t.Fatalf("empty list has %v", got)
	}
	l.Replace("config", Problem{Source: "c.yaml:2", Message: "b"}, Problem{Source: "c.yaml:1", Message: "a"})
	l.Report("forwarder", errors.New("down"))
	got := l.All()
	if len(got) != 3 || got[0].Message != "a" || got[1].Message != "b" || got[2].Source != "forwarder" {
		t.Fatalf("got %v", got)
	}
	if counts := l.Counts(); len(counts) != 2 || counts["config"] != 2 || counts["forwarder"] != 1 {
		t.Errorf("counts %v", counts)
	}
	since := got[0].Since
	l.Replace("config", Problem{Source: "c.yaml:1", Message: "a"})
	l.Report("forwarder", nil)
	got = l.All()
	if len(got) != 1 || !got[0].Since.Equal(since) {
		t.Fatalf("got %v, expected the first problem with its first time", got)
	}
	l.Replace("config")
	if got := l.All(); len(got) != 0 {
		t.Fatalf("all over, but %v", got)
	}
}
