// SPDX-License-Identifier: Apache-2.0

// Package rules is the policy stage's table: the rules of all policies of a
// port in one direction, merged into one list that the first packet of a flow is
// held against.
//
//	policies of a port ──merge──> tier, priority, deny before allow, order
//	                                │ first match decides; PASS: next tier
//	                                v
//	                     nothing matched: closed if a policy isolates, else open
//
// A policy in audit mode is not enforced: the verdict is that of the other
// policies alone. What passes so, and would not if the audited policies
// were enforced like the others, is marked Audit. So an audited allow rule
// opens nothing, and an audited deny rule hides nothing that stands behind it.
//
// Lists and Sets are immutable and safe for concurrent use; ports with the same
// policies share a List, rules that name the same address set share a Set.
// Evaluate does not allocate.
package rules
