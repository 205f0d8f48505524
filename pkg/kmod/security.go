// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"strconv"
	"strings"
)

// efiSecureBoot is the variable of the UEFI specification, 3.3: four bytes of
// attributes (Documentation/filesystems/efivarfs.rst), then 1 if it is on.
const efiSecureBoot = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// capSysModule is the capability's number (capabilities(7)).
const capSysModule = 16

// Security is what decides which modules the kernel takes. A nil is unknown.
type Security struct {
	SecureBoot *bool  `json:"secureBoot,omitempty"` // of the firmware; false too where there is no EFI
	Lockdown   string `json:"lockdown,omitempty"`   // none, integrity, confidentiality; "" if the kernel has none
	Enforced   *bool  `json:"enforced,omitempty"`   // only modules signed by a trusted key are taken
	Capable    bool   `json:"capable"`              // this process has CAP_SYS_MODULE
}

// Security looks at them; what cannot be read is unknown.
func (s *System) Security(k *Running) Security {
	sec := Security{Lockdown: chosen(s.line("/sys/kernel/security/lockdown")), Capable: capable(s.line("/proc/self/status"))}
	if b, err := s.read(efiSecureBoot); err == nil && len(b) == 5 {
		sec.SecureBoot = new(b[4] == 1)
	} else if !s.exists("/sys/firmware/efi") && s.exists("/sys/firmware") {
		sec.SecureBoot = new(false)
	}
	switch v := s.line("/sys/module/module/parameters/sig_enforce"); {
	case v == "Y" || v == "N":
		sec.Enforced = new(v == "Y")
	case k.Config.On("MODULE_SIG_FORCE"):
		sec.Enforced = new(true)
	case k.Config.Off("MODULE_SIG"):
		sec.Enforced = new(false)
	}
	return sec
}

// lockedDown tells whether lockdown keeps unsigned modules out
// (kernel_lockdown(7)): both of its levels do.
func (s Security) lockedDown() bool { return s.Lockdown != "" && s.Lockdown != "none" }

// NeedsSignature tells whether a module without a trusted signature is refused.
func (s Security) NeedsSignature() bool { return s.Enforced != nil && *s.Enforced || s.lockedDown() }

// chosen is the word in brackets: "none [integrity] confidentiality".
func chosen(line string) string {
	for _, w := range strings.Fields(line) {
		if strings.HasPrefix(w, "[") && strings.HasSuffix(w, "]") {
			return w[1 : len(w)-1]
		}
	}
	return ""
}

// capable looks for CAP_SYS_MODULE in the effective set of /proc/self/status.
func capable(status string) bool {
	for line := range strings.Lines(status) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && n&(1<<capSysModule) != 0
		}
	}
	return false
}
