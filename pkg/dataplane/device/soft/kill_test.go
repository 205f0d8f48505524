// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

const killEnv = "NETIO_SOFT_KILL_CHILD"

// TestKill kills owners at full work, wherever they are between two stores, and looks
// at what they leave.
func TestKill(t *testing.T) {
	if os.Getenv(killEnv) != "" {
		work(t)
		return
	}
	rnd := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	salvaged, reclaimed := 0, uint64(0)
	for range 40 {
		s := NewStore()
		f, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKill$")
		cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), killEnv+"=1"), []*os.File{f}, os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("child says %q, %v", line, err)
		}
		// Not for an outcome: any moment will do.
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()

		k := testConn(t, s)
		files, err := k.Files()
		if err != nil {
			t.Fatal(err)
		}
		d, err := Attach(files, k)
		if err != nil {
			t.Fatal(err)
		}
		invariants(t, d)
		used := map[uint32]bool{}
		for lane := range d.lanes {
			w := drive(t, d, lane)
			for got := w.turn(); len(got) > 0; got = w.turn() {
				for _, e := range got {
					if abi.Action(e) != abi.InRX {
						continue
					}
					idx := abi.Param(e)
					if used[idx] || d.st.nbufs[idx].owner != ownProcess {
						t.Fatalf("nbuf %d is offered twice or not to be had", idx)
					}
					used[idx] = true
				}
			}
			reclaimed += d.area.DLane(lane).Reclaimed
			if n := d.area.DLane(lane).BadEntry; n != 0 {
				t.Errorf("%d bad entries", n)
			}
		}
		for i := range d.st.nbufs {
			if d.st.nbufs[i].owner == ownProcess && !used[uint32(i)] {
				t.Fatalf("nbuf %d is with the process, which does not know", i)
			}
		}
		salvaged += len(used)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	if salvaged == 0 && reclaimed == 0 {
		t.Error("no owner was killed at work")
	}
	t.Logf("%d packets salvaged, %d nbufs reclaimed", salvaged, reclaimed)
}

// work forwards between fake TUNs on two lanes until it is killed.
func work(t *testing.T) {
	k, err := NewKeeperConn(os.NewFile(3, "keeper"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Nbufs: 128, Lanes: 2, ParkedSlots: 32}, k)
	if err != nil {
		t.Fatal(err)
	}
	ports := []*fakeTUN{
		addFake(t, d, device.PortConfig{}), addFake(t, d, device.PortConfig{}), addFake(t, d, device.PortConfig{Whole: true}),
	}
	for _, p := range ports {
		go func() {
			buf := make([]byte, 1<<17)
			for {
				for rawRead2(p.fd, buf) > 0 {
				}
			}
		}()
		go func() {
			for i := uint16(0); ; i++ {
				n := 100
				if i%3 == 0 {
					n = 6000
				}
				rawWrite2(p.fd, append(make([]byte, vnetLen), udp(false, i, false, i, make([]byte, n))...))
			}
		}()
	}
	for lane := range 2 {
		go func() {
			w := drive(t, d, lane)
			rnd := rand.New(rand.NewPCG(1, uint64(lane)))
			first := true
			var tx []uint32
			for {
				got := w.turn(tx...)
				tx = append(tx[:0], abi.Entry(abi.OutWant, 3))
				for _, e := range got {
					idx := abi.Param(e)
					switch abi.Action(e) {
					case abi.InGrant, abi.InFetched:
						tx = append(tx, abi.Entry(abi.OutFree, idx))
					case abi.InRX:
						if first {
							d.area.Nbuf(idx).EPort = ports[rnd.IntN(3)].id
						}
						first = e&abi.EntMore == 0
						tx = append(tx, abi.Entry(abi.OutTX, idx)|e&abi.EntMore)
					}
				}
			}
		}()
	}
	os.Stdout.WriteString("at work\n")
	select {}
}
