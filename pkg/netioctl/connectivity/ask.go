// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// askAll asks what the links are about, all pods at the same time, and keeps the results
// in the order of the links.
func (t *test) askAll(ctx context.Context, links []Link) {
	results := make([]Result, len(links))
	asked := map[*party][]int{} // numbers of links
	var askers []*party
	for i := range links {
		l := &links[i]
		results[i] = Result{Link: *l, State: OK}
		switch {
		case l.Kind == PodsStart && l.from.refused:
			results[i].State, results[i].Why = Skipped, l.from.trouble
		case l.Kind == PodsStart && l.from.trouble != "":
			results[i].State, results[i].Why = Failed, l.from.trouble
		case l.Kind == PodsStart:
		case l.skip != "":
			results[i].State, results[i].Why = Skipped, l.skip
		default:
			if asked[l.from] == nil {
				askers = append(askers, l.from)
			}
			asked[l.from] = append(asked[l.from], i)
		}
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, from := range askers {
		g.Go(func() error {
			var questions []probe.Question
			for _, i := range asked[from] {
				q := links[i].question
				q.ID = i
				questions = append(questions, q)
			}
			answers, err := t.ask(ctx, from, questions)
			for _, i := range asked[from] {
				results[i].judge(from, answers[i], err, ctx.Err())
			}
			return nil
		})
	}
	_ = g.Wait() // they return none
	t.results = append(t.results, results...)
}

// judge makes a result of an answer; nil if none came, because of err. ended is why the
// test ended before.
func (r *Result) judge(from *party, a *probe.Answer, err, ended error) {
	switch {
	case a == nil && ended != nil:
		r.State, r.Why = Skipped, "the test ended before"
	case a == nil:
		r.State, r.Why = Failed, fmt.Sprintf("the pod could not be told to ask: %v", err)
	case a.Unable != "":
		r.State, r.Why = Skipped, a.Unable
	case a.Error != "":
		r.State, r.Why = Failed, a.Error
	case r.itself && !slices.ContainsFunc(from.addresses, func(own netip.Addr) bool { return own.String() == a.From }):
		r.State, r.Why = Failed, fmt.Sprintf("answered, but it is seen as %s, which is not its address", a.From)
	}
	if a != nil {
		r.Milliseconds = a.Took.Milliseconds()
	}
}

// ask has a pod ask. Answers are by the numbers of questions; err is why some are missing.
func (t *test) ask(ctx context.Context, from *party, questions []probe.Question) (map[int]*probe.Answer, error) {
	in, err := json.Marshal(questions)
	if err != nil {
		return nil, fmt.Errorf("write questions: %w", err)
	}
	var out collected
	runErr := t.cluster.RunIn(ctx, t.pods[from.name], container, bytes.NewReader(in), &out, "probe", "ask")
	answers := map[int]*probe.Answer{}
	lines := json.NewDecoder(bytes.NewReader(out.bytes()))
	for {
		a := &probe.Answer{}
		if err := lines.Decode(a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return answers, errors.Join(runErr, fmt.Errorf("read answers: %w", err))
		}
		answers[a.ID] = a
	}
	if runErr == nil && len(answers) < len(questions) {
		runErr = fmt.Errorf("%d of %d answers came", len(answers), len(questions))
	}
	return answers, runErr
}

// collected is what a command has written, also while it may still write.
type collected struct {
	mu   sync.Mutex
	text []byte
}

func (c *collected) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	return len(p), nil
}

func (c *collected) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text)
}
