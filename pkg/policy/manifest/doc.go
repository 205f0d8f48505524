// SPDX-License-Identifier: Apache-2.0

// Package manifest reads NetIOPolicy and NetIOClusterPolicy objects from a directory
// of YAML files, for a host without an API server. What an API server would refuse is refused here
// by the same schema, the CRD's, in the same words and with the place in the
// file.
//
//	directory ──> files ──> documents ──> schema, rules ──> Set
//	                 │                          │
//	                 └── last good version <────┴── Problem
//
// Files are those whose names end in .yaml or .yml and do not begin with a dot,
// in the directory itself, by name. A file has any number of documents, each of
// them an object of these kinds, a list of one kind (NetIOPolicyList), or a List of
// any. A NetIOPolicy without a namespace is in namespace default.
//
// # What is in force
//
// A file counts as a whole. While there is a mistake anywhere in it, its last
// good version stays in force, every object of it as it was; each mistake is
// reported as a Problem that says so. A file that never was good has no object
// in force.
//
// Two objects of the same kind, namespace and name are a mistake. Within a file it is
// the file's. Of two files, the one whose version in force has the object keeps
// it, and if neither has, the first by name; the mistake is the other file's.
//
// A file that is removed or renamed takes its objects along: under a new name
// it is a new file. A directory that is missing or cannot be read changes
// nothing: everything stays in force, and that is a Problem. An empty directory
// means that there are no policies.
//
// Load reads once and knows no last good versions. Watch keeps them, and with
// KeepIn they outlive the process.
//
// An editor or a script that writes a file in place may be caught with half of
// it written. Write another file and rename it: that is never seen half done.
package manifest
