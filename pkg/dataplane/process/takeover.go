// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"netio.dev/netio/pkg/dataplane/device/soft"
	"netio.dev/netio/pkg/dataplane/monotonic"
)

// A forwarder takes over from one that runs, as at an upgrade, so that packets wait for
// milliseconds and nothing is made anew:
//
//	new supervisor                         old supervisor
//	  connect to forwarder.takeover ──────> is that the same device?
//	                                        stop the worker
//	  the lock, the soft device's files <── hand over (package soft)
//	  start a worker                        wait for the lock, in case the new one ends
//
// The lock goes with its open file, so that nobody else can get it meanwhile.
// Whatever fails before all is handed over, the old one goes on.

// takeoverSocket is in the run directory; lockName is what its lock is called when it
// is handed over.
const (
	takeoverSocket = "forwarder.takeover"
	lockName       = "lock"
)

const (
	// lockEvery is how often a lock is looked at that nobody announces.
	lockEvery = 20 * time.Millisecond
	// takeoverTime is how long each step of a takeover may take.
	takeoverTime = 10 * time.Second
	// greetingMax is the longest message, in bytes.
	greetingMax = 1024
)

// errAsked is returned when somebody has only asked.
var errAsked = errors.New("asked which device it is")

// errRefused is returned when the forwarder that runs does not hand over.
var errRefused = errors.New("the forwarder that runs does not hand over")

// greeting is what the one that takes over says first, and what the other answers.
type greeting struct {
	// Device is kernel or soft, Instance its name.
	Device   string `json:"device,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Refused is why not.
	Refused string `json:"refused,omitempty"`
	// Ask for the device and the instance alone; a forwarder that does not know
	// this refuses.
	Ask bool `json:"ask,omitempty"`
}

// claim makes the run directory ours: when nobody has it, or, with take, from who has
// it. Then since is the CLOCK_MONOTONIC time from which on nobody forwards, else 0.
func (o *options) claim(ctx context.Context, chosen string, store *soft.Store, take bool, log *slog.Logger) (held *os.File, since int64, err error) {
	waiting := false
	for {
		lock, err := lockRunDir(o.runDir)
		if !errors.Is(err, errLocked) || !o.takeOver {
			return lock, 0, err
		}
		if take {
			since := int64(monotonic.Now())
			switch lock, err := o.take(ctx, chosen, store); {
			case err == nil:
				return lock, since, nil
			case errors.Is(err, errRefused):
				return nil, 0, err
			default: // it is about to end, or does not know how to hand over
				if !waiting {
					log.Info("waiting for the forwarder that runs to end", "why", err)
				}
			}
		}
		waiting = true
		select {
		case <-ctx.Done():
			return nil, 0, nil
		case <-time.After(lockEvery):
		}
	}
}

// askDevice tells which device the forwarder has that runs, "" if none runs or it does not say.
func (o *options) askDevice(ctx context.Context) string {
	c, err := o.dialTakeover(ctx)
	if err != nil {
		return ""
	}
	defer c.Close()
	if err := send(c, greeting{Ask: true}); err != nil {
		return ""
	}
	answer, err := receive(c)
	if err != nil {
		return ""
	}
	return answer.Device
}

// dialTakeover connects to the forwarder that runs.
func (o *options) dialTakeover(ctx context.Context) (*net.UnixConn, error) {
	dialed, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", filepath.Join(o.runDir, takeoverSocket))
	if err != nil {
		return nil, fmt.Errorf("ask it to hand over: %w", err)
	}
	c := dialed.(*net.UnixConn)
	if err := c.SetDeadline(time.Now().Add(takeoverTime)); err != nil {
		return nil, errors.Join(fmt.Errorf("ask it to hand over: %w", err), c.Close())
	}
	return c, nil
}

// take asks the forwarder that runs to hand over, and takes what it has.
func (o *options) take(ctx context.Context, chosen string, store *soft.Store) (lock *os.File, err error) {
	c, err := o.dialTakeover(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := send(c, greeting{Device: chosen, Instance: o.instance}); err != nil {
		return nil, err
	}
	answer, err := receive(c)
	if err != nil {
		return nil, err
	}
	if answer.Refused != "" {
		return nil, fmt.Errorf("%w: %s", errRefused, answer.Refused)
	}
	if err := store.TakeOver(c); err != nil {
		return nil, err
	}
	if lock = store.Take(lockName); lock == nil {
		return nil, fmt.Errorf("%w its lock", errRefused)
	}
	return lock, nil
}

// handOver gives the lock and all that the store has to who takes over.
func handOver(c *net.UnixConn, lock *os.File, store *soft.Store) error {
	if err := store.Put(lockName, lock); err != nil {
		return err
	}
	if err := store.HandOver(c); err != nil {
		if kept := store.Take(lockName); kept != nil {
			err = errors.Join(err, kept.Close())
		}
		return err
	}
	return nil
}

// awaitTakeover listens until somebody may take over, or ctx ends, which is nil.
func (o *options) awaitTakeover(ctx context.Context, l *net.UnixListener, chosen string, log *slog.Logger) *net.UnixConn {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil {
				log.Error("nobody can take over any more", "error", err)
				<-ctx.Done()
			}
			return nil
		}
		if err := o.greet(c, chosen); err != nil {
			if !errors.Is(err, errAsked) {
				log.Warn("a forwarder that would take over is refused", "error", err)
			}
			c.Close()
			continue
		}
		return c
	}
}

// greet says whether who has connected may take over.
func (o *options) greet(c *net.UnixConn, chosen string) error {
	if err := c.SetDeadline(time.Now().Add(takeoverTime)); err != nil {
		return err
	}
	g, err := receive(c)
	if err != nil {
		return err
	}
	if g.Ask {
		return errors.Join(errAsked, send(c, greeting{Device: chosen, Instance: o.instance}))
	}
	refused := ""
	switch {
	case g.Device != chosen:
		refused = fmt.Sprintf("it moves packets by the %s device, and pods' interfaces are of that: use --device %s, or restart the node's pods after the forwarder has been stopped", chosen, chosen)
	case g.Instance != o.instance:
		refused = fmt.Sprintf("its device is called %s, not %s: use --instance %[1]s", o.instance, g.Instance)
	}
	if err := send(c, greeting{Refused: refused}); err != nil {
		return err
	}
	if refused != "" {
		return errors.New(refused)
	}
	return nil
}

// listenTakeover opens the socket, in place of what a dead process has left.
func (o *options) listenTakeover() (*net.UnixListener, error) {
	path := filepath.Join(o.runDir, takeoverSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then it may be the successor's
	// The run directory is root's alone; so is the socket.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for a successor: %w", err), l.Close())
	}
	return l, nil
}

func send(c *net.UnixConn, g greeting) error {
	text, err := json.Marshal(g)
	if err == nil {
		_, err = c.Write(text)
	}
	if err != nil {
		return fmt.Errorf("takeover: %w", err)
	}
	return nil
}

func receive(c *net.UnixConn) (g greeting, err error) {
	text := make([]byte, greetingMax)
	n, err := c.Read(text)
	if err == nil {
		err = json.Unmarshal(text[:n], &g)
	}
	if err != nil {
		return g, fmt.Errorf("takeover: %w", err)
	}
	return g, nil
}
