// SPDX-License-Identifier: Apache-2.0

package forwarder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/desired"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/policy"
)

// turn does what there is to do now.
func (k *Keeper) turn(ctx context.Context) {
	if state := k.conn.GetState(); state != connectivity.Ready {
		k.inForce = nil
		k.retry.succeeded()                                   // the connection's coming wakes
		if k.told || state == connectivity.TransientFailure { // not while it tries for the first time
			k.report(Status{Err: ErrDown})
		}
		k.absorb(ErrDown)
		return
	}
	if k.inForce == nil {
		if err := k.join(ctx); err != nil {
			k.retry.failed()
			k.report(Status{Connected: !errors.Is(err, ErrDown), Err: err})
			k.absorb(err)
			return
		}
		k.retry.succeeded()
	}
	batch := k.take()
	live := batch[:0]
	for _, r := range batch {
		if r.must && r.ctx.Err() != nil {
			r.done <- result{err: r.ctx.Err()}
			continue
		}
		live = append(live, r)
	}
	if len(live) > 0 {
		k.carryOut(ctx, live)
	}
}

// absorb lets the edits count that do not need the forwarder, and gives those
// up that waited long enough for it, or to whom waiting is of no use.
func (k *Keeper) absorb(why error) {
	var waiting []*request
	for _, r := range k.take() {
		switch {
		case !r.must:
			k.state = r.edit(k.state)
			r.done <- result{err: why}
			if !errors.Is(why, ErrDown) {
				k.poke() // it may be what was missing
			}
		case r.ctx.Err() != nil:
			r.done <- result{err: r.ctx.Err()}
		case !errors.Is(why, ErrDown) || !time.Now().Before(r.deadline):
			r.done <- result{err: why}
		default:
			waiting = append(waiting, r)
		}
	}
	k.putBack(waiting)
}

// join finds out what is in force and makes it what is wanted.
func (k *Keeper) join(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := k.config.Get(call, &dataplanev1.GetRequest{})
	if err != nil {
		return callError(err)
	}
	target, problems := k.builder.Build(k.state)
	is := desired.Sorted(got)
	if !desired.Equal(is, target) {
		if is, err = k.remake(ctx, is, target); err != nil {
			return err
		}
		next := numbered(target, is.GetRevision()+1)
		if _, err := k.apply(ctx, &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Snapshot{Snapshot: next}}); err != nil {
			return err
		}
		is = next
	}
	k.inForce = numbered(target, is.GetRevision())
	k.inForceNow(problems)
	if k.events.Joined != nil {
		k.events.Joined()
	}
	return nil
}

func (k *Keeper) inForceNow(problems []policy.Problem) {
	k.mu.Lock()
	k.taken, k.takenState, k.takenProblems = k.inForce, k.state, problems
	k.mu.Unlock()
	k.report(Status{Connected: true, InForce: true, Revision: k.inForce.GetRevision(), Problems: problems})
}

// numbered is the snapshot with a revision; it shares all else.
func numbered(s *dataplanev1.Snapshot, revision uint64) *dataplanev1.Snapshot {
	return &dataplanev1.Snapshot{
		Revision: revision, Settings: s.GetSettings(), Ports: s.GetPorts(), Routes: s.GetRoutes(),
		AddressSets: s.GetAddressSets(), Policies: s.GetPolicies(), SourceNats: s.GetSourceNats(), DestinationNats: s.GetDestinationNats(),
	}
}

// carryOut brings a batch into force. If the forwarder refuses it, each
// request is tried alone, so that one cannot fail another.
func (k *Keeper) carryOut(ctx context.Context, batch []*request) {
	err := k.tryBatch(ctx, batch)
	switch {
	case err == nil:
		return
	case errors.Is(err, ErrRefused) && len(batch) > 1:
		for i, r := range batch {
			if k.inForce == nil { // lost the forwarder on the way
				k.putBack(batch[i:])
				k.poke()
				return
			}
			k.carryOut(ctx, []*request{r})
		}
	case errors.Is(err, ErrRefused):
		r := batch[0]
		if r.stay {
			k.state = r.edit(k.state)
			k.inForce = nil // and try again, after a while
			k.retry.failed()
			k.report(Status{Connected: true, Err: err})
		}
		r.done <- result{err: err}
	case errors.Is(err, ErrFailed):
		k.inForce = nil
		k.retry.failed()
		k.report(Status{Connected: true, Err: err})
		for _, r := range batch {
			if !r.must {
				k.state = r.edit(k.state)
			}
			r.done <- result{err: err}
		}
	default:
		// Another revision is in force, or the connection broke: who knows
		// what came into force? Joining again makes it what is wanted.
		k.inForce = nil
		k.putBack(batch)
		k.poke()
	}
}

// tryBatch applies what the batch changes, and answers its requests if that
// is in force. After an error nobody is answered and the state is as before.
func (k *Keeper) tryBatch(ctx context.Context, batch []*request) error {
	next := k.state
	for _, r := range batch {
		next = r.edit(next)
	}
	target, problems := k.builder.Build(next)
	is, err := k.remake(ctx, k.inForce, target)
	if err != nil {
		return err
	}
	k.inForce = is
	delta := desired.Diff(is, target)
	states := map[string]*dataplanev1.PortState{}
	if !desired.Empty(delta) {
		delta.BaseRevision, delta.Revision = is.GetRevision(), is.GetRevision()+1
		resp, err := k.apply(ctx, &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Delta{Delta: delta}})
		if err != nil {
			return err
		}
		for _, p := range resp.GetPorts() {
			states[p.GetName()] = p
		}
		k.inForce = numbered(target, delta.Revision)
	}
	k.state = next
	k.inForceNow(problems)
	for _, r := range batch {
		r.done <- result{state: states[r.port]}
	}
	return nil
}

// remake takes the ports away that target has as other interfaces, which the
// forwarder demands before they are made anew. It returns what is in force then.
func (k *Keeper) remake(ctx context.Context, is, target *dataplanev1.Snapshot) (*dataplanev1.Snapshot, error) {
	without := desired.WithoutRemade(is, target)
	if without == nil {
		return is, nil
	}
	delta := desired.Diff(is, without)
	delta.BaseRevision, delta.Revision = is.GetRevision(), is.GetRevision()+1
	if _, err := k.apply(ctx, &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Delta{Delta: delta}}); err != nil {
		return nil, err
	}
	return numbered(without, delta.Revision), nil
}

// apply calls the forwarder. Once it has begun, stopping the agent does not cut
// it off.
func (k *Keeper) apply(ctx context.Context, req *dataplanev1.ApplyRequest) (*dataplanev1.ApplyResponse, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	resp, err := k.config.Apply(call, req)
	if err != nil {
		return nil, callError(err)
	}
	if k.events.Ports != nil && len(resp.GetPorts()) > 0 {
		k.events.Ports(resp.GetPorts())
	}
	return resp, nil
}

// errAborted: another revision is in force than was thought.
var errAborted = errors.New("another revision is in force")

// callError sorts the errors of a call by what is to be done.
func callError(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.ResourceExhausted, codes.Unimplemented:
		return fmt.Errorf("%w: %s", ErrRefused, violations(s))
	case codes.Aborted:
		return fmt.Errorf("%w: %s", errAborted, s.Message())
	case codes.Unavailable, codes.Canceled:
		return fmt.Errorf("%w: %s", ErrDown, s.Message())
	}
	return fmt.Errorf("%w: %s", ErrFailed, s.Message())
}

// violations is the message with each mistake that the forwarder names.
func violations(s *status.Status) string {
	var all []string
	for _, d := range s.Details() {
		if b, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range b.GetFieldViolations() {
				all = append(all, v.GetField()+": "+v.GetDescription())
			}
		}
	}
	if len(all) == 0 {
		return s.Message()
	}
	return strings.Join(all, "; ")
}
