// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Release is what /etc/os-release says of the distribution (os-release(5)).
type Release struct {
	ID      string   `json:"id,omitempty"`
	Like    []string `json:"like,omitempty"`
	Variant string   `json:"variant,omitempty"`
	Name    string   `json:"name,omitempty"` // for people
}

// ParseRelease reads an os-release file. Lines that are none of its
// assignments are passed over, as the manual page asks. Errors are those of
// reading.
func ParseRelease(r io.Reader) (Release, error) {
	var rel Release
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value = shellValue(value)
		switch name {
		case "ID":
			rel.ID = value
		case "ID_LIKE":
			rel.Like = strings.Fields(value)
		case "VARIANT_ID":
			rel.Variant = value
		case "PRETTY_NAME":
			rel.Name = value
		}
	}
	return rel, lines.Err()
}

// shellValue is what a shell would assign: quotes go, and in double quotes the
// backslash before what it may stand before.
func shellValue(s string) string {
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '"' && s[0] != '\'' {
		return s
	}
	quote := s[0]
	s = s[1 : len(s)-1]
	if quote == '\'' {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// immutable are systems to which no package can be added, and that
// have no compiler.
var immutable = map[string]string{
	"talos":        "Talos",
	"bottlerocket": "Bottlerocket",
	"cos":          "Container-Optimized OS",
	"flatcar":      "Flatcar",
}

// sealed is the name of a system that takes no packages, "" if it does.
func (r Release) sealed() string {
	if name := immutable[r.ID]; name != "" {
		return name
	}
	if r.Variant == "coreos" || r.ID == "rhcos" {
		return "CoreOS"
	}
	return ""
}

// headersCure says how to get the headers of a kernel on this system.
func (r Release) headersCure(release string) string {
	if name := r.sealed(); name != "" {
		return fmt.Sprintf("%s takes no packages: give a netio.ko that was built for this kernel (--dir), or use the soft device", name)
	}
	if strings.Contains(release, "microsoft-standard") {
		return "there is no package of headers for kernels of WSL: build from their source, or use the soft device"
	}
	flavour := release[strings.LastIndexByte(release, '-')+1:]
	for _, id := range append([]string{r.ID}, r.Like...) {
		switch id {
		case "debian", "ubuntu", "raspbian":
			return "install them: apt-get install linux-headers-" + release
		case "ol":
			if strings.Contains(release, "uek") {
				return "install them: dnf install kernel-uek-devel-" + release
			}
			return "install them: dnf install kernel-devel-" + release
		case "fedora", "rhel", "centos", "rocky", "almalinux", "amzn":
			return "install them: dnf install kernel-devel-" + release
		case "suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed":
			return fmt.Sprintf("install them: zypper install kernel-%s-devel=%s", flavour, strings.TrimSuffix(release, "-"+flavour))
		case "arch", "manjaro":
			for _, kind := range []string{"lts", "zen", "hardened"} {
				if strings.HasSuffix(release, "-"+kind) {
					return fmt.Sprintf("install them: pacman -S linux-%s-headers", kind)
				}
			}
			return "install them: pacman -S linux-headers"
		case "alpine":
			return fmt.Sprintf("install them: apk add linux-%s-dev", flavour)
		}
	}
	return "install the headers (or the development package) of kernel " + release + " from this system's packages"
}

// toolsCure says how to get programs that are missing.
func (r Release) toolsCure(programs ...string) string {
	what := strings.Join(programs, " ")
	for _, id := range append([]string{r.ID}, r.Like...) {
		switch id {
		case "debian", "ubuntu", "raspbian":
			return "install them: apt-get install " + what
		case "fedora", "rhel", "centos", "rocky", "almalinux", "amzn", "ol":
			return "install them: dnf install " + what
		case "suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed":
			return "install them: zypper install " + what
		}
	}
	return "install " + what + ", and have them in PATH"
}
