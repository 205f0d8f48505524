// SPDX-License-Identifier: Apache-2.0

package soft

import "strconv"

// Keeper holds the device's files while no process owns the instance: the
// supervisor of the forwarder. Names are unique; Put under a name that is taken
// replaces the file. Both return when the keeper has acted. The device calls
// them from any goroutine, never from Kick or Wait.
type Keeper interface {
	// Put gives the keeper a duplicate of fd to hold under name.
	Put(name string, fd int) error
	// Drop makes the keeper close what it holds under name, if anything.
	Drop(name string) error
}

// NamedFile is a file that a Keeper has held. It is a bare descriptor since an
// os.File of a TUN would be polled by the runtime for each packet.
type NamedFile struct {
	Name string
	FD   int
}

// noKeeper is the Keeper of a device whose state ends with the process.
type noKeeper struct{}

func (noKeeper) Put(string, int) error { return nil }
func (noKeeper) Drop(string) error     { return nil }

// Names under which files are kept.
const (
	areaFile  = "area"
	stateFile = "state"
	ownerFile = "owner"
)

func portFile(id uint32) string { return "port." + strconv.FormatUint(uint64(id), 10) }
