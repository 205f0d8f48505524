// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// webPolicy cuts stranger off from web, and leaves client's transfer alone.
const webPolicy = `apiVersion: netio.dev/v1alpha1
kind: NetIOPolicy
metadata:
  name: web
  namespace: default
spec:
  podSelector:
    matchLabels: {app: web}
  ingress:
  - name: from-client
    action: Allow
    from:
    - podSelector:
        matchLabels: {app: client}
`

// policyPatience is how long a changed manifest may take to be in force.
const policyPatience = 10 * time.Second

// applyPolicy writes the manifest, and is satisfied once stranger cannot
// connect any more, and client still can.
func (d *demo) applyPolicy(ctx context.Context) (string, error) {
	connect := func(from string, patience time.Duration) error {
		to := netip.AddrPortFrom(address(d.pod(web).addr, false), servicePort)
		_, err := exchange(d.pod(from).ns, d.pod(web).ns, to, patience)
		return err
	}
	for _, from := range []string{client, stranger} {
		if err := connect(from, answerPatience); err != nil {
			return "", fmt.Errorf("%s, before the policy: %w", from, err)
		}
	}
	if err := os.WriteFile(filepath.Join(manifestDir, "web.yaml"), []byte(webPolicy), 0o600); err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	for deadline := time.Now().Add(policyPatience); connect(stranger, cutOffPatience) == nil; {
		if time.Now().After(deadline) {
			return "", fmt.Errorf("stranger still reaches web %v after the manifest was written", policyPatience)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	if err := connect(client, answerPatience); err != nil {
		return "", fmt.Errorf("client, which the policy allows: %w", err)
	}
	return "stranger is cut off, client is not", nil
}

// showVerdict prints what a person would ask.
func (d *demo) showVerdict(ctx context.Context) (string, error) {
	from, to := address(d.pod(stranger).addr, false), address(d.pod(web).addr, false)
	explained, err := d.netioctl(ctx, "policy", "explain", from.String(), netip.AddrPortFrom(to, servicePort).String())
	if err != nil {
		return "", err
	}
	drops, err := d.netioctl(ctx, "drops")
	if err != nil {
		return "", err
	}
	if !strings.Contains(explained, "deny") {
		return "", fmt.Errorf("netioctl policy explain does not say deny:\n%s", explained)
	}
	if !strings.Contains(drops, "policy") {
		return "", fmt.Errorf("netioctl drops names no policy:\n%s", drops)
	}
	return fmt.Sprintf("netioctl policy explain %s %s:%d\n%s\nnetioctl drops\n%s",
		from, to, servicePort, strings.TrimRight(explained, "\n"), strings.TrimRight(drops, "\n")), nil
}

func (d *demo) netioctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(d.bin, "netioctl"), args...).Output()
	if err != nil {
		message := ""
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			message = ": " + strings.TrimSpace(string(exit.Stderr))
		}
		return "", fmt.Errorf("netioctl %s: %w%s", strings.Join(args, " "), err, message)
	}
	return string(out), nil
}
