// SPDX-License-Identifier: Apache-2.0

// Package forwarder keeps the forwarder at the configuration that the agent
// wants.
//
//	Add, Settle ──edits──> queue ──batch──> State ──Build──> Snapshot ──Diff──> Delta ──Apply──> forwarder
//	                                          │                            ^
//	                                          └─ wanted                    └─ in force, as far as is known
//
// One goroutine owns both sides. Edits that come while a call is under way
// become one delta. Whenever it is not certain what is in force (the forwarder
// was restarted, a call was cut off, revisions differ) it asks, and sends a
// snapshot if, and only if, that is not what is wanted.
package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"netio.dev/netio/pkg/agent/desired"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
)

// Errors of Add and Settle.
var (
	// ErrDown: the forwarder cannot be reached.
	ErrDown = errors.New("the forwarder does not answer")
	// ErrRefused: the forwarder says that the configuration is wrong.
	ErrRefused = errors.New("the forwarder refuses the configuration")
	// ErrFailed: the forwarder could not do what it was told.
	ErrFailed = errors.New("the forwarder failed")
	// ErrStopped: the agent is stopping.
	ErrStopped = errors.New("the agent is stopping")
)

// Times. They are no promise to anyone but keep callers from waiting long.
const (
	// Patience is how long an Add waits for a forwarder that is away: a restart
	// takes milliseconds.
	Patience = 3 * time.Second
	// callTimeout bounds a call; making a thousand interfaces takes seconds.
	callTimeout = 60 * time.Second
	// maxMessage is the forwarder's own limit for a configuration, in bytes.
	maxMessage = 256 << 20
)

// Edit makes a state of a state. It must be quick and pure: it may be called
// several times.
type Edit func(desired.State) desired.State

// Status tells how things stand.
type Status struct {
	Connected bool
	// InForce: the forwarder has what is wanted.
	InForce bool
	// Revision that the forwarder took last, 0 if none is known.
	Revision uint64
	// Err is why what is wanted is not in force.
	Err error
	// Problems are policies that are in force other than they are written.
	Problems []policy.Problem
}

// Keeper is the agent's end of the connection to the forwarder.
type Keeper struct {
	conn   *grpc.ClientConn
	config dataplanev1.ConfigurationClient
	events Events

	mu     sync.Mutex
	queue  []*request
	closed bool
	status Status
	told   bool
	// taken is what the forwarder took last.
	taken *dataplanev1.Snapshot
	// takenState is what that was made of, takenProblems what is wrong with it.
	takenState    desired.State
	takenProblems []policy.Problem
	wake          chan struct{}

	// What follows belongs to Run.
	builder *desired.Builder
	state   desired.State
	// inForce is sorted; nil while it is not known.
	inForce *dataplanev1.Snapshot
	retry   retryTimer
}

// Events are called from Run's goroutine; nil ones are not.
type Events struct {
	// Status changed.
	Status func(Status)
	// Joined: what is wanted is in force after it was not certain, such as
	// after a restart of the forwarder. Interfaces may have been made anew.
	Joined func()
	// Ports: the forwarder tells of ports that were part of a change.
	Ports func([]*dataplanev1.PortState)
}

type request struct {
	edit Edit
	// must: the edit counts only if it comes into force; else it counts even
	// while the forwarder is away.
	must bool
	// stay: the edit counts even if the forwarder refuses it.
	stay     bool
	port     string
	deadline time.Time
	done     chan result
	ctx      context.Context
}

type result struct {
	state *dataplanev1.PortState
	err   error
}

// Dial prepares the connection to the socket; nothing is sent before Run.
func Dial(socket string, events Events) (*Keeper, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: time.Second,
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.3, Jitter: 0.1, MaxDelay: time.Second},
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connect to forwarder: %w", err)
	}
	return &Keeper{
		conn: conn, config: dataplanev1.NewConfigurationClient(conn), events: events,
		wake: make(chan struct{}, 1), builder: desired.NewBuilder(),
		status: Status{Err: ErrDown},
	}, nil
}

// Observation is the forwarder's other service, on the same connection.
func (k *Keeper) Observation() dataplanev1.ObservationClient {
	return dataplanev1.NewObservationClient(k.conn)
}

// Status tells how things stand now.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Taken is the configuration that the forwarder took last, nil if there is
// none yet. It must not be changed.
func (k *Keeper) Taken() *dataplanev1.Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.taken
}

// InForce is what the configuration was made of that the forwarder took last, with
// what is wrong with its policies. Before there is one it is the empty state. It must
// not be changed.
func (k *Keeper) InForce() (desired.State, []policy.Problem) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.takenState, k.takenProblems
}

// Add carries an edit out that adds a port, and returns what the forwarder
// says of the port (nil if the edit changed nothing) once the edit is in force
// in every worker. After an error the edit has no effect. Errors: ErrDown
// after at most Patience, ErrRefused,
// ErrFailed, ErrStopped, ctx's.
func (k *Keeper) Add(ctx context.Context, port string, edit Edit) (*dataplanev1.PortState, error) {
	return k.do(ctx, &request{edit: edit, must: true, port: port, deadline: time.Now().Add(Patience)})
}

// Remove carries an edit out that takes something away. It counts whatever
// happens: after an error it comes into force as soon as it can. Errors:
// ErrDown at once, ErrRefused, ErrFailed, ErrStopped.
func (k *Keeper) Remove(edit Edit) error {
	_, err := k.do(context.Background(), &request{edit: edit, stay: true})
	return err
}

// Change carries an edit of policies or settings out. If the forwarder is away
// or fails it counts from when that is over. If the forwarder refuses it, it has no effect:
// what was in force stays. Errors: as Remove.
func (k *Keeper) Change(edit Edit) error {
	_, err := k.do(context.Background(), &request{edit: edit})
	return err
}

func (k *Keeper) do(ctx context.Context, r *request) (*dataplanev1.PortState, error) {
	if err := ctx.Err(); err != nil && r.must {
		return nil, err
	}
	r.done, r.ctx = make(chan result, 1), ctx
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, ErrStopped
	}
	k.queue = append(k.queue, r)
	k.mu.Unlock()
	k.poke()
	res := <-r.done
	return res.state, res.err
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run keeps the forwarder at what is wanted, at first the initial state, until
// ctx ends. The forwarder is left as it is. Run is called once.
func (k *Keeper) Run(ctx context.Context, initial desired.State) {
	k.state = initial
	var watcher sync.WaitGroup
	watcher.Go(func() { k.watchConnection(ctx) })
	defer watcher.Wait()
	defer k.Close()
	for ctx.Err() == nil {
		k.turn(ctx)
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-k.retry.after(k.earliestDeadline()):
		}
	}
}

// watchConnection wakes Run when the connection comes or goes.
func (k *Keeper) watchConnection(ctx context.Context) {
	state := k.conn.GetState()
	for {
		if state == connectivity.Idle {
			k.conn.Connect()
		}
		k.poke()
		if !k.conn.WaitForStateChange(ctx, state) {
			return
		}
		state = k.conn.GetState()
	}
}

// Close ends a Keeper that does not Run: whoever waits, or comes later, gets
// ErrStopped.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	waiting := k.queue
	k.queue = nil
	k.mu.Unlock()
	for _, r := range waiting {
		r.done <- result{err: ErrStopped}
	}
	if err := k.conn.Close(); err != nil {
		slog.Debug("close connection to forwarder", "error", err)
	}
}

func (k *Keeper) take() []*request {
	k.mu.Lock()
	defer k.mu.Unlock()
	batch := k.queue
	k.queue = nil
	return batch
}

// putBack queues requests again, before those that came meanwhile.
func (k *Keeper) putBack(rs []*request) {
	if len(rs) == 0 {
		return
	}
	k.mu.Lock()
	k.queue = append(rs, k.queue...)
	k.mu.Unlock()
}

func (k *Keeper) earliestDeadline() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	var first time.Time
	for _, r := range k.queue {
		if !r.deadline.IsZero() && (first.IsZero() || r.deadline.Before(first)) {
			first = r.deadline
		}
	}
	return first
}

func (k *Keeper) report(s Status) {
	k.mu.Lock()
	if s.Revision == 0 {
		s.Revision = k.status.Revision
	}
	same := k.told && s.Connected == k.status.Connected && s.InForce == k.status.InForce && s.Revision == k.status.Revision &&
		text(s.Err) == text(k.status.Err) && len(s.Problems) == 0 && len(k.status.Problems) == 0
	k.status, k.told = s, true
	k.mu.Unlock()
	if !same && k.events.Status != nil {
		k.events.Status(s)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
