// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// worker adds and removes pods, one step after the other.
type worker struct {
	*bed
	random *rand.Rand
	held   []*pod
}

// chance is true n times in a hundred.
func (w *worker) chance(n int) bool { return w.random.IntN(100) < n }

func (w *worker) run() {
	for {
		number := w.next()
		if number == 0 {
			break
		}
		if err := w.pod(number); err != nil {
			w.fail(err)
			break
		}
	}
	for len(w.held) > 0 {
		if err := w.remove(); err != nil {
			w.fail(err)
		}
	}
}

// pod adds a pod and lets it talk. Others make room for it.
func (w *worker) pod(number int) error {
	id := fmt.Sprintf("pod-%d", number)
	p, err := newPod(id, colours[w.random.IntN(len(colours))])
	if err != nil {
		return err
	}
	if w.chance(15) {
		if err := w.mistake(p); err != nil {
			return errors.Join(err, p.close())
		}
	}
	if w.chance(10) {
		if err := w.interrupt(number); err != nil {
			return errors.Join(err, p.close())
		}
	}
	for attempt := 0; ; attempt++ {
		err := w.add(p)
		if err == nil {
			break
		}
		if w.ctx.Err() != nil {
			return errors.Join(err, p.close())
		}
		w.note("ADD failed while something was killed, and was tried again")
		// The runtime tries again with another sandbox; what it deletes
		// meanwhile is deleted without the agent.
		err = w.step(func() error { return w.runtime.del(w.ctx, p.attachment) })
		p.attachment.id = fmt.Sprintf("%s-%d", id, attempt+1)
		if err == nil && len(w.held) > 1 {
			err = w.remove()
		}
		if err != nil {
			return errors.Join(err, p.close())
		}
		time.Sleep(pause)
	}
	w.held = append(w.held, p)
	if err := w.talk(p); err != nil {
		return err
	}
	for len(w.held) > held {
		if err := w.remove(); err != nil {
			return err
		}
	}
	return nil
}

// step does something that the pods do not stand still for.
func (w *worker) step(f func() error) error {
	w.steps.RLock()
	defer w.steps.RUnlock()
	return f()
}

// add fails the test if it fails without reason.
func (w *worker) add(p *pod) error {
	return w.step(func() error {
		since, began := w.weather.now(), time.Now()
		addr, err := w.runtime.add(w.ctx, p.attachment)
		if err != nil {
			if w.weather.fairSince(since) {
				w.fail(err)
			}
			return err
		}
		p.addr = addr
		if err := p.serve(); err != nil {
			return err
		}
		w.join(p, time.Since(began))
		return nil
	})
}

// mistakes that an ADD can be about, each a reason to fail.
var mistakes = []string{"no such netns", "the interface exists", "attached elsewhere", "address outside the pools"}

// mistake tries to add what cannot be added. It must leave nothing, also
// without a DEL.
func (w *worker) mistake(p *pod) error {
	a := p.attachment
	a.id = "mistake-" + a.id
	var links []string // of the pod
	kind := mistakes[w.random.IntN(len(mistakes))]
	switch kind {
	case "no such netns":
		a.netns += "-none"
	case "the interface exists":
		attrs := netlink.NewLinkAttrs()
		attrs.Name = ifname
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}
		if err := p.ns.Netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make an interface in %s: %w", p.id, err)
		}
		defer func() { _ = p.ns.Netlink.LinkDel(veth) }()
		links = []string{"veth " + ifname, "veth peer"}
	case "attached elsewhere":
		if len(w.held) == 0 {
			return nil
		}
		a.id = w.held[0].id
	case "address outside the pools":
		a.ips = []string{"192.0.2.77"}
	}
	w.note("ADD that fails: %s", kind)
	return w.step(func() error {
		since := w.weather.now()
		if _, err := w.runtime.add(w.ctx, a); err == nil {
			return fmt.Errorf("ADD of %s succeeded, but: %s", a.id, kind)
		}
		if kind != "attached elsewhere" && (w.chance(50) || !w.weather.fairSince(since)) {
			if err := w.runtime.del(w.ctx, a); err != nil {
				return err
			}
		}
		if !w.weather.fairSince(since) {
			return nil
		}
		return w.has(p, links...)
	})
}

// interrupt kills the plugin within an ADD, wherever that is. Half of the time
// nobody deletes what it may have attached.
func (w *worker) interrupt(number int) error {
	p, err := newPod(fmt.Sprintf("interrupted-%d", number), colours[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(w.random.IntN(80))*time.Millisecond)
	defer cancel()
	return w.step(func() error {
		what := "ADD in time"
		if _, err := w.runtime.add(ctx, p.attachment); err != nil {
			what = "ADD with the plugin killed"
		}
		if w.chance(50) {
			w.note("%s, DEL", what)
			return w.delete(p)
		}
		w.note("%s, no DEL", what)
		return p.close()
	})
}

// has is an error unless the pod has these interfaces.
func (w *worker) has(p *pod, want ...string) error {
	got, err := p.links()
	if err != nil {
		return err
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s has the interfaces %v, expected %v", p.id, got, want)
	}
	return nil
}

// talk sends some packets. While nothing is amiss they must arrive.
func (w *worker) talk(p *pod) error {
	since := w.weather.now()
	err := p.ping(gateway)
	if err != nil && w.weather.fairSince(since) {
		return fmt.Errorf("%s to its gateway: %w", p.id, err)
	}
	peers := w.pods()
	peer := peers[w.random.IntN(len(peers))]
	if peer == p {
		return nil
	}
	kind := "a transfer"
	if w.chance(50) {
		kind = "datagrams"
		err = p.flood(peer.addr)
	} else {
		err = p.transfer(peer)
	}
	w.note("traffic: %s", kind)
	if err != nil && w.weather.fairSince(since) && !peer.leaving.Load() {
		return fmt.Errorf("%s from %s (%s) to %s (%s): %w", kind, p.id, p.addr, peer.id, peer.addr, err)
	}
	return nil
}

// endings of a pod, and how many in a hundred end so.
var endings = []struct {
	percent int
	name    string
	end     func(*worker, *pod) error
}{
	{45, "DEL", (*worker).delete},
	{15, "netns removed, then DEL", func(w *worker, p *pod) error {
		return errors.Join(p.close(), w.runtime.del(w.ctx, p.attachment))
	}},
	{15, "DEL twice", func(w *worker, p *pod) error {
		return errors.Join(w.runtime.del(w.ctx, p.attachment), w.delete(p))
	}},
	{10, "DEL without netns", func(w *worker, p *pod) error {
		p.netns = ""
		return w.delete(p)
	}},
	{5, "no DEL, left to the runtime's GC", (*worker).abandon},
	{10, "no DEL, left to the plugin's GC", func(w *worker, p *pod) error {
		return errors.Join(w.runtime.loseCache(p.attachment), w.abandon(p))
	}},
}

// remove takes one of the pods away that the worker holds.
func (w *worker) remove() error {
	i := w.random.IntN(len(w.held))
	p := w.held[i]
	w.held = slices.Delete(w.held, i, i+1)
	n := w.random.IntN(100)
	for _, e := range endings {
		if n -= e.percent; n < 0 {
			w.note("%s", e.name)
			return w.step(func() error {
				w.leave(p)
				if err := e.end(w, p); err != nil {
					return fmt.Errorf("%s of %s: %w", e.name, p.id, err)
				}
				return nil
			})
		}
	}
	return errors.New("the endings are less than a hundred percent")
}

// delete is how it should be: DEL, then the namespace.
func (w *worker) delete(p *pod) error {
	since := w.weather.now()
	err := w.runtime.del(w.ctx, p.attachment)
	if err == nil && w.weather.fairSince(since) {
		err = w.has(p)
	}
	return errors.Join(err, p.close())
}

// abandon leaves a pod's attachment behind.
func (w *worker) abandon(p *pod) error { return p.close() }
