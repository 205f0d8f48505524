// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"net/netip"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// podArgs is what the plugin takes from CNI_ARGS.
type podArgs struct {
	namespace, name, uid string
	ip                   netip.Addr // zero: none
}

// readPodArgs reads "KEY=VALUE;KEY=VALUE". Unknown keys are an error unless
// IgnoreUnknown is set, as in the reference implementation.
func readPodArgs(s string) (podArgs, error) {
	var p podArgs
	var unknown []string
	ignoreUnknown := false
	if !utf8.ValidString(s) {
		return p, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS is not valid UTF-8")
	}
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return p, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: expected KEY=VALUE, got %q", pair)
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			p.namespace = value
		case "K8S_POD_NAME":
			p.name = value
		case "K8S_POD_UID":
			p.uid = value
		case "K8S_POD_INFRA_CONTAINER_ID": // is CNI_CONTAINERID
		case "IP":
			var err error
			if p.ip, err = parseIP(value); err != nil {
				return p, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: IP: %v", err)
			}
		case "IgnoreUnknown":
			switch strings.ToLower(value) {
			case "1", "true":
				ignoreUnknown = true
			case "0", "false":
				ignoreUnknown = false
			default:
				return p, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: IgnoreUnknown: expected 1, true, 0 or false, got %q", value)
			}
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 && !ignoreUnknown {
		return p, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: unknown keys %s; remove them or add IgnoreUnknown=1", strings.Join(unknown, ", "))
	}
	return p, nil
}

// attachmentID names what args are about.
func attachmentID(network string, args *skel.CmdArgs) (*agentv1.AttachmentID, error) {
	for _, v := range []struct{ name, value string }{
		{"CNI_CONTAINERID", args.ContainerID}, {"CNI_IFNAME", args.IfName}, {"CNI_NETNS", args.Netns},
	} {
		if !utf8.ValidString(v.value) {
			return nil, fail(types.ErrInvalidEnvironmentVariables, "%s is not valid UTF-8: %q", v.name, v.value)
		}
	}
	return &agentv1.AttachmentID{Network: network, ContainerId: args.ContainerID, Ifname: args.IfName}, nil
}

// checkNetNS refuses a namespace that is our own before anything is made in it;
// skel does so only afterwards. CNI_NETNS_OVERRIDE allows it.
func checkNetNS(args *skel.CmdArgs) error {
	if !filepath.IsAbs(args.Netns) {
		return fail(types.ErrInvalidEnvironmentVariables, "CNI_NETNS: expected the absolute path of a network namespace, got %q", args.Netns)
	}
	if o := strings.ToUpper(args.NetnsOverride); o == "TRUE" || o == "1" {
		return nil
	}
	own, err := ns.CheckNetNS(args.Netns)
	if err != nil {
		return err
	}
	if own {
		return fail(types.ErrInvalidNetNS, "CNI_NETNS: %s is the plugin's own network namespace, not a container's", args.Netns)
	}
	return nil
}
