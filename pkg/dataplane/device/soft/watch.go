// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How the device learns of an interface's state:
//
//	up     epoll: a TUN becomes writable when its interface comes up
//	down   a write fails with EIO; else within watchEvery
//	gone   a read or write fails with EBADFD, or epoll reports an error
//
// A netlink subscription would tell all of it, but costs a socket in each pod's
// network namespace, which would be kept alive by it.
const watchEvery = time.Second

// watchInterfaces looks at all interfaces with one system call now and then.
func (d *Device) watchInterfaces() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.done:
			return
		case <-tick.C:
			d.ctl.Lock()
			if d.gone() == nil {
				d.lookAtInterfaces()
			}
			d.ctl.Unlock()
		}
	}
}

func (d *Device) lookAtInterfaces() {
	fds, ports := d.pollFDs[:0], d.pollPorts[:0]
	for id := range d.st.hdr.top + 1 {
		if p := d.ports[id].Load(); p != nil && !p.pinnedGone() {
			fds = append(fds, unix.PollFd{Fd: int32(p.fd), Events: unix.POLLOUT})
			ports = append(ports, p)
		}
	}
	d.pollFDs, d.pollPorts = fds, ports
	if n, err := unix.Poll(fds, 0); err != nil || n < 0 {
		return
	}
	for i, p := range ports {
		p.setUp(fds[i].Revents&unix.POLLOUT != 0)
	}
}

// pinnedGone notices the end of a network namespace that the port's own file
// holds: its path names it no longer.
func (p *port) pinnedGone() bool {
	if p.st.pinned == 0 {
		return false
	}
	if _, err := os.Stat(cstring(p.st.netns[:])); err == nil {
		return false
	}
	p.setUp(false)
	return true
}
