// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is a metric with its help and the names of its labels.
func family(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// What the agent tells.
var (
	buildInfo         = family("netio_build_info", "The agent's version; always 1.", "version", "goversion")
	inForce           = family("netio_configuration_in_force", "1 if the forwarder has the configuration that is wanted.")
	endpoints         = family("netio_endpoints", "Pods' interfaces that are attached.")
	policies          = family("netio_policies", "Policies that are wanted.")
	policiesInvalid   = family("netio_policies_invalid", "Mistakes in policies; such a policy closes what it selects, or stays as it was before it grew too large.")
	problems          = family("netio_problems", "What is wrong now, by the part of the agent that found it; netioctl status lists it.", "part")
	poolSize          = family("netio_pool_addresses", "Addresses of the pool that pods can have.", "pool")
	poolUsed          = family("netio_pool_addresses_used", "Addresses of the pool that pods have.", "pool")
	poolCooling       = family("netio_pool_addresses_cooling", "Addresses of the pool that were given back and rest.", "pool")
	cniDurationName   = "netio_cni_duration_seconds"
	cniDurationHelp   = "Time of CNI calls in the agent; result is ok or error."
	policyLatencyName = "netio_policy_latency_seconds"
	policyLatencyHelp = "Time from when a change of policies or pods' labels is known until it is in force in the forwarder."
)

// What the forwarder tells. Its counters begin anew with its worker, but for
// restarts, which begin anew with its supervisor.
var (
	up             = family("netio_forwarder_up", "1 if the forwarder answers; if not, there is nothing else of it.")
	forwarderInfo  = family("netio_forwarder_info", "The forwarder's version and device; always 1.", "version", "device", "abi")
	startTime      = family("netio_forwarder_start_time_seconds", "When the forwarder's worker started, since 1970.")
	restarts       = family("netio_forwarder_restarts_total", "Times that the forwarder's worker was started anew.")
	restartGap     = family("netio_forwarder_last_restart_gap_seconds", "Time without forwarding at the last restart.")
	revision       = family("netio_forwarder_configuration_revision", "Revision of the configuration in force.")
	connections    = family("netio_forwarder_connections", "Connections in the table.")
	connectionsMax = family("netio_forwarder_connections_max", "Connections that the table has room for.")
	nbufs          = family("netio_forwarder_nbufs", "Packet buffers of the device.")
	nbufsFree      = family("netio_forwarder_nbufs_free", "Packet buffers of the device that are free.")

	packets    = family("netio_forwarder_packets_total", "Packets from ports (rx) and to ports (tx); a GSO packet counts as one.", "lane", "direction")
	bytes      = family("netio_forwarder_bytes_total", "Bytes of packets from ports (rx) and to ports (tx).", "lane", "direction")
	slowPath   = family("netio_forwarder_slow_path_packets_total", "Packets that had no flow yet.", "lane")
	vectors    = family("netio_forwarder_vectors_total", "Turns of the worker's loop that found packets.", "lane")
	polls      = family("netio_forwarder_polls_total", "Turns of the worker's loop that found none.", "lane")
	sleeps     = family("netio_forwarder_sleeps_total", "Times that the worker slept.", "lane")
	kicks      = family("netio_forwarder_kicks_total", "Times that the worker woke the device.", "lane")
	syscalls   = family("netio_forwarder_syscalls_total", "System calls on the packet path, as the device counts them.", "lane")
	badEntries = family("netio_forwarder_bad_entries_total", "Ring entries that made no sense.", "lane")
	copied     = family("netio_forwarder_payload_copied_bytes_total", "Payload that was copied through user space.", "lane")

	drops           = family("netio_drops_total", "Packets that were dropped; netioctl drops says what each reason means.", "reason")
	ports           = family("netio_ports", "Ports; state is up, down, or error.", "kind", "state")
	portConnections = family("netio_port_connections", "Connections of ports; one between two ports counts for each.", "kind")
	portNbufs       = family("netio_port_nbufs", "Packet buffers that ports hold.", "kind")
	portQueueBytes  = family("netio_port_queue_bytes", "Bytes that wait to be sent to ports.", "kind")
	portParkedBytes = family("netio_port_parked_bytes", "Payload of ports that is parked in the device.", "kind")

	podPackets     = family("netio_pod_packets_total", "Packets from the pod (rx) and to it (tx); with perPod.", "port", "namespace", "pod", "direction")
	podBytes       = family("netio_pod_bytes_total", "Bytes from the pod (rx) and to it (tx); with perPod.", "port", "namespace", "pod", "direction")
	podDrops       = family("netio_pod_drops_total", "Packets from the pod that were dropped; with perPod.", "port", "namespace", "pod")
	podConnections = family("netio_pod_connections", "Connections of the pod; with perPod.", "port", "namespace", "pod")
)
