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

// applyPolicy writes the manifest, and is satisfied if stranger cannot connect
// once it is in force, and client still can.
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
	if err := d.awaitDenied(ctx); err != nil {
		return "", err
	}
	if connect(stranger, cutOffPatience) == nil {
		return "", errors.New("stranger still reaches web, though the policy is in force")
	}
	if err := connect(client, answerPatience); err != nil {
		return "", fmt.Errorf("client, which the policy allows: %w", err)
	}
	return "stranger is cut off, client is not", nil
}

// explain is the question that awaits the policy, and that is shown.
var explain = []string{"policy", "explain", stranger, fmt.Sprintf("%s:%d", web, servicePort)}

// awaitDenied waits until the forwarder would drop what stranger sends.
func (d *demo) awaitDenied(ctx context.Context) error {
	for deadline := time.Now().Add(policyPatience); ; {
		explained, status, err := d.netioctl(ctx, explain...)
		switch {
		case err != nil:
			return err
		case status == explainDenied:
			return nil
		case ctx.Err() != nil:
			return errInterrupted
		case time.Now().After(deadline):
			return fmt.Errorf("%v after the manifest was written, netioctl %s ends with %d, not with %d, denied:\n%s",
				policyPatience, strings.Join(explain, " "), status, explainDenied, explained)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// showVerdict prints what a person would ask.
func (d *demo) showVerdict(ctx context.Context) (string, error) {
	explained, status, err := d.netioctl(ctx, explain...)
	if err != nil {
		return "", err
	}
	if status != explainDenied {
		return "", fmt.Errorf("netioctl %s ended with %d, expected %d, denied:\n%s", strings.Join(explain, " "), status, explainDenied, explained)
	}
	drops, status, err := d.netioctl(ctx, "drops", stranger)
	if err != nil {
		return "", err
	}
	if status != 0 || !strings.Contains(drops, policyReason) {
		return "", fmt.Errorf("netioctl drops %s does not show %s:\n%s", stranger, policyReason, drops)
	}
	return fmt.Sprintf("\n$ netioctl %s\n%s\n$ netioctl drops %s\n%s", strings.Join(explain, " "), explained, stranger, drops), nil
}

const (
	// explainDenied is the exit status of policy explain for a packet that
	// would not get through.
	explainDenied = 3
	// policyReason begins the drop reasons of policies.
	policyReason = "policy"
)

// netioctl returns what it printed, on both outputs, and its exit status.
func (d *demo) netioctl(ctx context.Context, args ...string) (string, int, error) {
	out, err := exec.CommandContext(ctx, d.program("netioctl"), args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", 0, fmt.Errorf("netioctl: %w", err)
	}
	if exit != nil {
		return string(out), exit.ExitCode(), nil
	}
	return string(out), 0, nil
}
