// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"netio.dev/netio/test/internal/netlab"
)

// hostState is what NetIO may change on a host, line by line.
type hostState []string

func readHostState(host *netlab.Namespace) (hostState, error) {
	var state hostState
	for _, command := range []string{
		"ip -brief link", "ip -brief address",
		"ip -4 route show table all", "ip -6 route show table all",
		"ip -4 rule", "ip -6 rule",
		"nft list ruleset",
	} {
		words := strings.Fields(command)
		out, err := host.Output(words[0], words[1:]...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			// Link-local addresses come up in their own time.
			if !strings.Contains(line, "fe80::") {
				state = append(state, command+": "+strings.TrimSpace(line))
			}
		}
	}
	for _, name := range []string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/" + uplink + "/accept_ra",
	} {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			return nil, fmt.Errorf("read sysctl: %w", err)
		}
		state = append(state, name+" = "+strings.TrimSpace(string(value)))
	}
	return state, nil
}

// changes are the lines that are not in both states, with a sign as diff has it.
func (s hostState) changes(after hostState) []string {
	var list []string
	for _, line := range s {
		if !slices.Contains(after, line) {
			list = append(list, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(s, line) {
			list = append(list, "+ "+line)
		}
	}
	return list
}
