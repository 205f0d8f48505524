// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"netio.dev/netio/pkg/cni/pending"
)

// Defaults and limits of the plugin's own fields.
const (
	DefaultAgentSocket = "/run/netio/agent.sock"
	DefaultTimeout     = 30 * time.Second

	minMTU     = 1280 // RFC 8200 section 5
	maxMTU     = 65535
	maxTimeout = 600 * time.Second
	// maxSocketPath is sun_path of unix(7) without its final zero.
	maxSocketPath = 107
)

// config is what the plugin takes from its standard input.
type config struct {
	cniVersion string
	network    string
	socket     string
	mtu        uint32 // 0: the agent's
	timeout    time.Duration
	stateDir   string
	labels     map[string]string
	argsIPs    []netip.Addr // requested by args.cni.ips
	runtimeIPs []netip.Addr // requested by runtimeConfig.ips
	dns        types.DNS
	prevResult *types100.Result // nil: none
	// valid are the attachments that GC keeps; hasValid tells an empty list
	// from none.
	valid    []types.GCAttachment
	hasValid bool
}

func newConfig() *config {
	return &config{
		socket:   DefaultAgentSocket,
		timeout:  DefaultTimeout,
		stateDir: pending.DefaultStateDir,
	}
}

// field takes the value of one key. Its error names the value that was wrong
// and what was expected; the key is put in front of it.
type field func(c *config, value json.RawMessage) error

// protocolFields are those that the specification and its conventions give a
// meaning. They are read before the others, in this order.
var protocolFields = []struct {
	key  string
	read field
}{
	{"cniVersion", func(c *config, v json.RawMessage) error { return decode(v, &c.cniVersion, "a string") }},
	{"name", func(c *config, v json.RawMessage) error { return decode(v, &c.network, "a string") }},
	{"type", ignored},
	{"cniVersions", ignored},
	{"capabilities", ignored},
	{"disableCheck", ignored},
	{"disableGC", ignored},
	{"loadOnlyInlinedPlugins", ignored},
	{"ipMasq", ignored},
	{"ipam", noIPAM},
	{"dns", func(c *config, v json.RawMessage) error { return decode(v, &c.dns, "an object") }},
	{"args", readArgsField},
	{"runtimeConfig", readRuntimeConfig}, // after dns, which it overrides
	{"prevResult", readPrevResult},       // needs cniVersion
}

// ownFields are the plugin's own.
var ownFields = []struct {
	key  string
	read field
}{
	{"agentSocket", readSocket},
	{"mtu", readMTU},
	{"timeoutSeconds", readTimeout},
	{"stateDir", readStateDir},
}

func ignored(*config, json.RawMessage) error { return nil }

// readConfig reads the configuration strictly: what the plugin does not know or
// cannot do is an error.
func readConfig(stdin []byte) (*config, error) {
	fields, err := readObject(stdin)
	if err != nil {
		return nil, err
	}
	c := newConfig()
	known := make(map[string]bool)
	for _, f := range slices.Concat(protocolFields, ownFields) {
		known[f.key] = true
		v, ok := fields[f.key]
		if !ok || isNull(v) {
			continue
		}
		if err := f.read(c, v); err != nil {
			return nil, configError(f.key, err)
		}
	}
	if err := c.readGCFields(fields); err != nil {
		return nil, err
	}
	for key, v := range fields {
		if !known[key] && !strings.HasPrefix(key, "cni.dev/") {
			return nil, unknownField(key, v)
		}
	}
	return c, nil
}

// readDelConfig reads what DEL needs and takes defaults for what is wrong.
func readDelConfig(stdin []byte) (*config, error) {
	fields, err := readObject(stdin)
	if err != nil {
		return nil, err
	}
	c := newConfig()
	if err := decode(fields["name"], &c.network, "a string"); err != nil || c.network == "" {
		return nil, fail(types.ErrInvalidNetworkConfig, "name: expected the network's name")
	}
	for _, f := range ownFields {
		if v, ok := fields[f.key]; ok {
			_ = f.read(c, v) // leaves the default
		}
	}
	return c, nil
}

func readObject(stdin []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &fields); err != nil {
		return nil, fail(types.ErrDecodingFailure, "network configuration: expected a JSON object: %v", err)
	}
	return fields, nil
}

// unsupported is an error about something that is understood but not done.
type unsupported struct{ error }

func configError(key string, err error) error {
	code := types.ErrInvalidNetworkConfig
	if errors.As(err, new(unsupported)) {
		code = types.ErrUnsupportedField
	}
	return fail(code, "network configuration: %s: %v", key, err)
}

func unknownField(key string, v json.RawMessage) error {
	hint := "remove it, or correct its name"
	for _, f := range slices.Concat(ownFields, protocolFields) {
		if strings.EqualFold(f.key, key) {
			hint = fmt.Sprintf("did you mean %s?", f.key)
		}
	}
	return fail(types.ErrUnsupportedField, "network configuration: %s: unknown field, with value %s; %s", key, excerpt(v), hint)
}

func isNull(v json.RawMessage) bool { return bytes.Equal(v, []byte("null")) }

// decode is json.Unmarshal with an error for people.
func decode(v json.RawMessage, into any, expected string) error {
	if err := json.Unmarshal(v, into); err != nil {
		return fmt.Errorf("expected %s, got %s", expected, excerpt(v))
	}
	return nil
}

// excerpt keeps messages short.
func excerpt(v json.RawMessage) string {
	const most = 120
	if s := string(v); len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(string(v[:most]), "") + "..."
}

func readSocket(c *config, v json.RawMessage) error {
	path, err := absolutePath(v)
	if err != nil {
		return err
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("%s is %d bytes long, a socket's path has at most %d", path, len(path), maxSocketPath)
	}
	c.socket = path
	return nil
}

func readStateDir(c *config, v json.RawMessage) error {
	path, err := absolutePath(v)
	if err != nil {
		return err
	}
	c.stateDir = path
	return nil
}

func absolutePath(v json.RawMessage) (string, error) {
	var path string
	if err := decode(v, &path, "an absolute path"); err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("expected an absolute path, got %s", excerpt(v))
	}
	return filepath.Clean(path), nil
}

func readMTU(c *config, v json.RawMessage) error {
	var n int64
	if err := json.Unmarshal(v, &n); err != nil || n != 0 && (n < minMTU || n > maxMTU) {
		return fmt.Errorf("expected a whole number from %d to %d, or 0 for the agent's, got %s", minMTU, maxMTU, excerpt(v))
	}
	c.mtu = uint32(n)
	return nil
}

func readTimeout(c *config, v json.RawMessage) error {
	var n int64
	most := int64(maxTimeout / time.Second)
	if err := json.Unmarshal(v, &n); err != nil || n < 1 || n > most {
		return fmt.Errorf("expected a whole number of seconds from 1 to %d, got %s", most, excerpt(v))
	}
	c.timeout = time.Duration(n) * time.Second
	return nil
}

// noIPAM refuses a choice that the plugin cannot follow.
func noIPAM(_ *config, v json.RawMessage) error {
	var ipam map[string]json.RawMessage
	if err := decode(v, &ipam, "an object"); err != nil {
		return err
	}
	if len(ipam) > 0 {
		return unsupported{fmt.Errorf("%s: the agent leases the addresses; remove the field and give the agent podCIDRs", excerpt(v))}
	}
	return nil
}

// readGCFields reads the list of valid attachments, also by the name that the
// specification had by mistake (containernetworking/cni pull request 1101).
func (c *config) readGCFields(fields map[string]json.RawMessage) error {
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		v, ok := fields[key]
		if !ok {
			continue
		}
		c.hasValid = true
		if err := decode(v, &c.valid, "a list of {containerID, ifname}"); err != nil {
			return configError(key, err)
		}
		for i, a := range c.valid {
			if a.ContainerID == "" || a.IfName == "" {
				return configError(key, fmt.Errorf("entry %d: containerID %q and ifname %q must not be empty", i, a.ContainerID, a.IfName))
			}
		}
		return nil
	}
	return nil
}
