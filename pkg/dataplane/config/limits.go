// SPDX-License-Identifier: Apache-2.0

package config

// Limits of a configuration. They are far above what a node needs; they keep a
// writer that has lost its way from taking the forwarder down.
const (
	MaxPorts            = 1<<24 - 1 // port numbers are 1 to 2^24-1
	MaxRoutes           = 1 << 21
	MaxAddressSets      = 1 << 17
	MaxPolicies         = 1 << 17
	MaxSourceNats       = 1 << 12
	MaxDestinationNats  = 1 << 17
	MaxNameLength       = 512 // bytes
	MaxPortAddresses    = 256 // per port
	MaxPortPolicies     = 1024
	MaxPortSteer        = 4096 // what a device takes of one port
	MaxTags             = 64   // per port
	MaxTagLength        = 1024
	MaxRules            = 10_000 // per policy and direction
	MaxRulePeers        = 1024
	MaxRuleMatches      = 1024
	MaxSetPrefixes      = 1 << 20 // exceptions included
	MaxNatAddresses     = 256     // per source NAT
	MaxNatExceptions    = 1024
	MaxBackends         = 10_000 // per destination NAT
	MaxBackendWeight    = 256
	MaxTotalConnections = 1 << 26
	MaxTimeoutSeconds   = 1 << 20 // 12 days
	MaxAffinitySeconds  = 86400
	MaxHostAddresses    = 1 << 12
	MaxTunnels          = 1 << 14
	MaxVNI              = 1<<24 - 1 // RFC 7348 section 5
	MinMTU, MaxMTU      = 576, 65535
	MinMTU6             = 1280 // RFC 8200 section 5
	maxInterfaceNameLen = 15   // IFNAMSIZ less its NUL
	maxNetNSPathLen     = 4095
	defaultMTU          = 1500
	defaultConnections  = 262144
	defaultPortShare    = 65536
	defaultNatFirstPort = 1024
	defaultNatLastPort  = 65535
	defaultTCPEstab     = 7200 // seconds, as in dataplane.proto
	defaultTCPOpening   = 30
	defaultTCPClosing   = 30
	defaultUDP          = 30
	defaultUDPStream    = 120
	defaultICMP         = 30
	defaultOther        = 120
	defaultFragment     = 10
	maxPortNumber       = 65535
	maxProtocol         = 254 // 255 is reserved (IANA)
	maxICMPTypeOrCode   = 255
	maxQuoted           = 64 // bytes of bad input that are repeated in a violation
)
