// SPDX-License-Identifier: Apache-2.0

package netioctl

// ANSI colours, on terminals only.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func (a *app) painted(color, s string) string {
	if !a.color || color == "" {
		return s
	}
	return color + s + plain
}

// verdict paints a verdict, a state, or an action of a rule.
func (a *app) verdict(s string) string {
	switch s {
	case "deny", "drop", "down", "failed":
		return a.painted(red, s)
	case "allow", "up":
		return a.painted(green, s)
	case "audit":
		return a.painted(yellow, s)
	}
	return s
}
