// SPDX-License-Identifier: Apache-2.0

// Package cni is the CNI plugin netio-cni: a short-lived process between a
// container runtime and the agent, which does the work.
//
//	runtime ──env, stdin──> netio-cni ──gRPC, unix socket──> netio-agent
//	        <─stdout, exit─     │                                │
//	                            └─ pending deletions (fsync) ────┘
//	                               when the agent is away
//
// It speaks version 1.1.0 of the CNI specification and answers in versions
// 0.3.0 to 1.1.0. It keeps nothing itself but the promises of package pending.
//
// # Nothing half-made
//
// If the agent answers an ADD with an error, it has cleaned up. If it is not
// certain that the agent answered (deadline, broken connection, a signal, a
// runtime that closed our stdout) the plugin sends a Del, and where that fails
// too leaves a pending deletion. Both are about the ADD's own network namespace:
// an attachment of the same name in another one is not its work, and stays. Only a plugin that is killed in that moment
// leaves it to the runtime, which the specification obliges to call DEL.
//
// # DEL
//
// DEL succeeds without the agent, at the price of a pending deletion. It does
// not judge the configuration: one that was refused by ADD must not keep the
// runtime from removing the container.
package cni
