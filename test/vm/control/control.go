// SPDX-License-Identifier: Apache-2.0

// Package control is what the host and the init process of a virtual machine
// say to each other: a JSON value a line, on a serial line that nothing else
// writes to. (The kernel's log has another one; on a common line the two would
// cut through each other.)
//
//	host   --- Request{ID, Kind, ...} --->  init
//	host   <-- Event{Ready} --------------  init
//	host   <-- Event{ID, Output} ... -----  init
//	host   <-- Event{ID, Exit, Code} -----  init
//
// Requests are carried out side by side; every one is answered by one Exit.
package control

// Kind of a request or event.
type Kind string

// Requests.
const (
	// Run runs Args, and answers when that has ended.
	Run Kind = "run"
	// Signal sends the signal Number to the process group of the request Target.
	Signal Kind = "signal"
	// Insert loads the module file Args[0] with the parameters Args[1:].
	Insert Kind = "insert"
	// Remove unloads the module Args[0].
	Remove Kind = "remove"
	// Exists fails unless the file Args[0] is there.
	Exists Kind = "exists"
	// Write writes Args[1] to the existing file Args[0].
	Write Kind = "write"
	// Leaks has kmemleak look for lost memory, where the kernel has it, and
	// outputs what that found.
	Leaks Kind = "leaks"
	// PowerOff ends the machine. It has no answer.
	PowerOff Kind = "poweroff"
)

// Events.
const (
	// Ready is sent once, when everything is mounted and all modules of the
	// image are loaded. Data is the kernel's release.
	Ready Kind = "ready"
	// Output is what a program wrote, standard output and error together.
	Output Kind = "output"
	// Exit ends a request.
	Exit Kind = "exit"
)

// Request to the init process.
type Request struct {
	ID   int      `json:"id"`
	Kind Kind     `json:"kind"`
	Args []string `json:"args,omitempty"`

	// Env is added to init's own: NAME=value.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory; empty means /.
	Dir string `json:"dir,omitempty"`
	// TimeoutMS is how long a program may run, in milliseconds; 0 is without
	// end. Then it gets SIGQUIT (a Go program shows its stacks) and, five
	// seconds later, SIGKILL.
	TimeoutMS int64 `json:"timeoutMS,omitempty"`

	// Target and Number are for Signal.
	Target int `json:"target,omitempty"`
	Number int `json:"number,omitempty"`
}

// Event from the init process.
type Event struct {
	ID   int    `json:"id"`
	Kind Kind   `json:"kind"`
	Data string `json:"data,omitempty"`

	// Code is the exit status; 128 and the signal's number after a signal, as
	// in a shell; -1 when it could not be done, and Error says why.
	Code     int    `json:"code,omitempty"`
	Error    string `json:"error,omitempty"`
	TimedOut bool   `json:"timedOut,omitempty"`
}

// Files of the image that init looks for.
const (
	// ModuleList names the kernel's own modules, a path a line, in the order
	// in which they are loaded.
	ModuleList = "/etc/modules.load"
	// Parameter on the kernel's command line names the terminal in /dev that
	// the control line is: "netio.control=ttyS1".
	Parameter = "netio.control="
)
