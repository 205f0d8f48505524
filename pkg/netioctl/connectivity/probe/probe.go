// SPDX-License-Identifier: Apache-2.0

// Package probe is both ends of what a connectivity test sends. It runs in pods, as
// `netioctl probe`:
//
//	probe serve   TCP and UDP: who is asked, and from which address; TCP echoes what follows
//	probe ask     questions in, answers out, as lines of JSON
//
// The greeting is "NAME ADDRESS:PORT\n".
package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// How a question is asked.
type How string

const (
	TCP    How = "TCP"
	UDP    How = "UDP"
	Bulk   How = "bulk"   // BulkSize bytes there and back, by TCP: packets of full size
	Echo   How = "echo"   // ICMP echo request; Target has no port
	Lookup How = "lookup" // the addresses of the name Target, by the cluster's DNS
	HTTPS  How = "HTTPS"  // any answer to a request; the certificate is not looked at
	Open   How = "open"   // a TCP connection, whoever answers
)

// BulkSize is how many bytes go each way: many windows full.
const BulkSize = 1 << 20

// APIServer as Target is the API server as pods find it, by their environment.
const APIServer = "apiserver"

// bulkWaits is how many times Wait a bulk transfer may take.
const bulkWaits = 4

// atATime is how many questions are asked at once.
const atATime = 32

// Question is what one pod asks another one, or somebody else.
type Question struct {
	ID  int `json:"id"`
	How How `json:"how"`
	// Family is 4, 6, or 0 for either.
	Family int `json:"family"`
	// Target is HOST:PORT; a HOST may be a name.
	Target string `json:"target"`
	// Expect are the names of those who may answer, or the addresses of a Lookup;
	// none: anybody.
	Expect []string `json:"expect,omitempty"`
	// Wait is how long one try may take, Settle how long to try again; 0: one try.
	Wait   time.Duration `json:"wait"`
	Settle time.Duration `json:"settle,omitempty"`
}

// Answer is what came of a question.
type Answer struct {
	ID int `json:"id"`
	// Error is empty if the right one answered. Unable is set instead if the question
	// could not even be asked.
	Error  string `json:"error,omitempty"`
	Unable string `json:"unable,omitempty"`
	// From is the address that the question was asked from, as who answered saw it.
	From string `json:"from,omitempty"`
	// Took is the time of the try that was answered, or of all that were not.
	Took time.Duration `json:"took"`
}

// Ask reads questions, a JSON array, asks them, and writes a line for each answer as it
// comes. Errors are those of reading and writing.
func Ask(ctx context.Context, in io.Reader, out io.Writer) error {
	var questions []Question
	if err := json.NewDecoder(in).Decode(&questions); err != nil {
		return fmt.Errorf("read questions: %w", err)
	}
	turns := make(chan struct{}, atATime)
	var (
		mu     sync.Mutex
		failed error
		wg     sync.WaitGroup
	)
	lines := json.NewEncoder(out)
	for _, q := range questions {
		turns <- struct{}{}
		wg.Go(func() {
			a := q.ask(ctx)
			<-turns
			mu.Lock()
			defer mu.Unlock()
			if err := lines.Encode(a); err != nil && failed == nil {
				failed = fmt.Errorf("write answers: %w", err)
			}
		})
	}
	wg.Wait()
	return failed
}

// again is how long to wait before the next try.
const again = 100 * time.Millisecond

// ask tries until the right answer comes or the time is over.
func (q *Question) ask(ctx context.Context) Answer {
	began := time.Now()
	for {
		tried := time.Now()
		a := q.try(ctx)
		if a.ID = q.ID; a.Error == "" {
			a.Took = time.Since(tried)
			return a
		}
		a.Took = time.Since(began)
		if a.Unable != "" || a.Took >= q.Settle {
			return a
		}
		select {
		case <-ctx.Done():
			return a
		case <-time.After(again):
		}
	}
}

// try asks once.
func (q *Question) try(ctx context.Context) (a Answer) {
	wait := q.Wait
	if q.How == Bulk {
		wait *= bulkWaits
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	name, err := "", error(nil)
	switch q.How {
	case TCP:
		name, a.From, err = AskTCP(ctx, q.network("tcp"), q.Target, 0)
	case Bulk:
		name, a.From, err = AskTCP(ctx, q.network("tcp"), q.Target, BulkSize)
	case UDP:
		name, a.From, err = AskUDP(ctx, q.network("udp"), q.Target)
	case Echo:
		err = ping(ctx, q.Target)
	case Lookup:
		return q.lookup(ctx)
	case HTTPS:
		err = request(ctx, q.network("tcp"), q.Target)
	case Open:
		err = open(ctx, q.network("tcp"), q.Target)
	default:
		return Answer{Unable: fmt.Sprintf("this version does not know how to ask %q", q.How)}
	}
	switch {
	case err != nil:
		a.Error, a.Unable = explain(err, wait)
	case name != "" && len(q.Expect) > 0 && !slices.Contains(q.Expect, name):
		a.Error = fmt.Sprintf("%s answered, not %s", name, strings.Join(q.Expect, " or "))
	}
	return a
}

// network is transport in the family that is asked for.
func (q *Question) network(transport string) string {
	if q.Family == 0 {
		return transport
	}
	return fmt.Sprintf("%s%d", transport, q.Family)
}

// lookup compares a name's addresses with those that are expected.
func (q *Question) lookup(ctx context.Context) Answer {
	resolver := net.Resolver{PreferGo: true}
	found, err := resolver.LookupNetIP(ctx, q.network("ip"), q.Target)
	if err != nil {
		text, unable := explain(err, q.Wait)
		return Answer{Error: text, Unable: unable}
	}
	var got []string
	for _, addr := range found {
		got = append(got, addr.Unmap().String())
	}
	want := slices.Sorted(slices.Values(q.Expect))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return Answer{Error: fmt.Sprintf("%s is %s, not %s", q.Target, strings.Join(got, " and "), strings.Join(want, " and "))}
	}
	return Answer{}
}
