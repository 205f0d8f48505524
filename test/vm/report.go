// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"regexp"
	"strings"
)

// Report is something that the kernel complained of: the line that begins it,
// and those that follow, up to reportLines.
type Report struct {
	Lines []string
}

func (r Report) String() string { return strings.Join(r.Lines, "\n") }

const reportLines = 60

// complaint matches the line that begins a report.
var complaint = regexp.MustCompile(strings.Join([]string{
	`\bWARNING: `, // WARN_ON, and lockdep: "possible circular locking dependency", "suspicious RCU usage"
	`\bBUG: `,     // KASAN, KCSAN, sleep in atomic, soft lockup, page faults
	`\bkernel BUG at `,
	`\bOops\b`,
	`\bUBSAN: `,
	`\bKASAN: `,
	`\bODEBUG: `,
	`general protection fault`,
	`Kernel panic`,
	`possible circular locking`,
	`suspicious RCU`,
	`rcu: INFO: .*(stall|detected)`,
	`INFO: task .* blocked for more`,
	`scheduling while atomic`,
	`refcount_t: `,
	`ref_tracker: .*(leaked|reference already released)`,
	`unregister_netdevice: waiting for`,
	`unreferenced object`,
	`kmemleak: [1-9]\d* new suspected`,
	`list_(add|del) corruption`,
	`Out of memory: Killed`,
	`page allocation failure`,
	`Unknown symbol`,
	`disagrees about version of symbol`,
}, "|"))

// harmless are reports on the kernel itself that say nothing about NetIO.
var harmless = []struct{ first, has, hasNot *regexp.Regexp }{
	// Data races without NetIO in them: the kernel has many that are known.
	{first: regexp.MustCompile(`BUG: KCSAN: `), hasNot: regexp.MustCompile(`\[netio`)},
	// User Mode Linux 6.1 walks the memory of a process that it has just forked
	// without the lock that lockdep expects.
	{first: regexp.MustCompile(`suspicious RCU usage`), has: regexp.MustCompile(`force_flush_all`), hasNot: regexp.MustCompile(`\[netio`)},
}

// Reports finds what the kernel complained of in its log. A report ends where
// the next one begins.
func Reports(log []string) []Report {
	var reports []Report
	for i := 0; i < len(log); {
		if !complaint.MatchString(log[i]) {
			i++
			continue
		}
		end := i + 1
		for end < min(i+reportLines, len(log)) && !complaint.MatchString(log[end]) {
			end++
		}
		if report := (Report{log[i:end]}); !report.harmless() {
			reports = append(reports, report)
		}
		i = end
	}
	return reports
}

func (r Report) harmless() bool {
	text := r.String()
	for _, h := range harmless {
		if h.first.MatchString(r.Lines[0]) &&
			(h.has == nil || h.has.MatchString(text)) && !h.hasNot.MatchString(text) {
			return true
		}
	}
	return false
}

// check is nil if the kernel complained of nothing.
func check(log []string) error {
	reports := Reports(log)
	if len(reports) == 0 {
		return nil
	}
	return fmt.Errorf("the kernel complained %d times, first:\n%v", len(reports), reports[0])
}
