// SPDX-License-Identifier: Apache-2.0

package main

// The marks between which instructions are counted; see plugin/count.c.

func markWindowBegin()
func markWindowEnd()
func markBatchBegin()
func markBatchEnd()
