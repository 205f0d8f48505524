// SPDX-License-Identifier: Apache-2.0

// Package problem keeps the list of what is wrong now, for people to see.
package problem

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Problem is one thing that is wrong.
type Problem struct {
	// Source says where: a file and line, a component.
	Source  string
	Message string
	Since   time.Time
}

// List is what is wrong now, by the part of the agent that found it. Its
// methods may be called concurrently. The zero value is an empty list.
type List struct {
	mu    sync.Mutex
	parts map[string][]Problem
}

// Replace states all problems of one part. Those that stay keep their time;
// what comes and what goes is logged once.
func (l *List) Replace(part string, now ...Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parts == nil {
		l.parts = map[string][]Problem{}
	}
	was := l.parts[part]
	same := func(p Problem) func(Problem) bool {
		return func(q Problem) bool { return p.Source == q.Source && p.Message == q.Message }
	}
	for i := range now {
		if j := slices.IndexFunc(was, same(now[i])); j >= 0 {
			now[i].Since = was[j].Since
			continue
		}
		now[i].Since = time.Now()
		slog.Warn("problem", "source", now[i].Source, "message", now[i].Message)
	}
	for _, p := range was {
		if !slices.ContainsFunc(now, same(p)) {
			slog.Info("problem is over", "source", p.Source, "message", p.Message)
		}
	}
	if len(now) == 0 {
		delete(l.parts, part)
		return
	}
	l.parts[part] = now
}

// Report is Replace for a part that has one problem or none.
func (l *List) Report(part string, err error) {
	if err == nil {
		l.Replace(part)
		return
	}
	l.Replace(part, Problem{Source: part, Message: err.Error()})
}

// Counts returns how many problems each part has, of those that have any.
func (l *List) Counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for part, p := range l.parts {
		counts[part] = len(p)
	}
	return counts
}

// All returns the problems, by source.
func (l *List) All() []Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Problem
	for _, p := range l.parts {
		all = append(all, p...)
	}
	slices.SortFunc(all, func(a, b Problem) int {
		return strings.Compare(a.Source+"\x00"+a.Message, b.Source+"\x00"+b.Message)
	})
	return all
}
